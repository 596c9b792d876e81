// What an SDK throws: its class and what it read from the answer.
export async function thrown(call) {
  try {
    await call();
  } catch (error) {
    return { exception: error.constructor.name, status: error.status, id: Boolean(error.requestID), ...described(error) };
  }
  return { exception: null };
}

// OpenAI's SDK reads `code` and `param` from the error, Anthropic's the type.
function described(error) {
  if ("code" in error) return { code: error.code, param: error.param };
  return { code: error.error?.error?.type };
}
