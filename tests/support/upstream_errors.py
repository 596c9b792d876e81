"""Real answers of providers and servers with status 400 or 422: what each says, and to whom it belongs."""

import json
from typing import Any


def openai(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more}


def fault(*where: Any, kind: str = "extra_forbidden", text: str = "Extra inputs are not permitted") -> dict[str, Any]:
    return {"type": kind, "loc": ["body", *where], "msg": text, "input": 1}


def openrouter(raw: Any) -> dict[str, Any]:
    text = raw if isinstance(raw, str) else json.dumps(raw)
    metadata = {"raw": text, "provider_name": "X"}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}, "user_id": "u"}


CUSTOMERS: dict[str, tuple[Any, str]] = {
    "OpenAI, context length": (
        openai(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens.",
            param="messages",
            code="context_length_exceeded",
        ),
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens.",
    ),
    "OpenAI, limit too large": (
        openai(
            "max_tokens is too large: 20480. This model supports at most 16384 completion tokens.",
            param="max_tokens",
            code="invalid_value",
        ),
        "max_tokens is too large: 20480. This model supports at most 16384 completion tokens.",
    ),
    "OpenAI, output used up": (
        openai("Could not finish the message because max_tokens or model output limit was reached."),
        "Could not finish the message because max_tokens or model output limit was reached.",
    ),
    "OpenAI, another parameter": (
        openai(
            "Unsupported value: 'temperature' does not support 0.2 with this model.",
            param="temperature",
            code="unsupported_value",
        ),
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
    ),
    "OpenAI, tool schema": (
        openai("Invalid schema for function 'billing': 'api key' is not of type 'object'.", param="tools[0].function"),
        "Invalid schema for function 'billing': 'api key' is not of type 'object'.",
    ),
    "Azure, content filter": (
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering the content management policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        "The response was filtered due to the prompt triggering the content management policy.",
    ),
    "Anthropic": (
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"},
            "request_id": "req_1",
        },
        "prompt is too long: 208310 tokens > 200000 maximum",
    ),
    "vLLM": (
        {"error": {"message": "Conversation roles must alternate.", "type": "Bad Request", "param": None, "code": 400}},
        "Conversation roles must alternate.",
    ),
    "vLLM, before 0.10": (
        {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": None, "code": 400},
        "Too long.",
    ),
    "SGLang": (
        {
            "object": "error",
            "message": "The input (9001 tokens) is longer than the model's context length (8192 tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        "The input (9001 tokens) is longer than the model's context length (8192 tokens).",
    ),
    "llama.cpp": (
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size. try increasing the context size",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 14429,
                "n_ctx": 8192,
            }
        },
        "the request exceeds the available context size. try increasing the context size",
    ),
    "LiteLLM": (
        {"error": {"message": "litellm.BadRequestError: Bad role.", "type": "None", "param": "None", "code": "400"}},
        "litellm.BadRequestError: Bad role.",
    ),
    "LiteLLM, wrapped": (
        {"error": {"message": {"error": "Bad role."}, "type": "None", "param": "None", "code": "400"}},
        "Bad role.",
    ),
    "Gemini": (
        [{"error": {"code": 400, "message": "Please use a valid role: user, model.", "status": "INVALID_ARGUMENT"}}],
        "Please use a valid role: user, model.",
    ),
    "OpenRouter, JSON": (openrouter(openai("The word 'json' is missing.")), "The word 'json' is missing."),
    "OpenRouter, JSON of another shape": (openrouter({"detail": "Too long."}), "Too long."),
    "OpenRouter, text": (openrouter("Too long."), "Too long."),
    "Groq": (
        {
            "error": {
                "message": "Failed to call a function.",
                "type": "invalid_request_error",
                "code": "tool_use_failed",
            }
        },
        "Failed to call a function.",
    ),
    "Mistral, detail": (
        {
            "object": "error",
            "message": {"detail": [fault("messages", 0, "assistant", "reasoning_content")]},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        "messages.0.assistant.reasoning_content: Extra inputs are not permitted",
    ),
    "Mistral, detail as text": (
        {
            "object": "error",
            "message": json.dumps({"detail": [fault("frequency_penalty")]}),
            "type": "internal_error_proxy",
            "param": None,
            "code": "1000",
        },
        "frequency_penalty: Extra inputs are not permitted",
    ),
    "Mistral, message as list": (
        {"object": "Error", "detail": [fault("tools")], "message": [fault("tools")], "type": "x", "code": 3001},
        "tools: Extra inputs are not permitted",
    ),
    "FastAPI": (
        {"detail": [fault("a", text="Required"), fault("b", text="Too long")]},
        "a: Required; b: Too long",
    ),
    "FastAPI, text": ({"detail": "Too long."}, "Too long."),
    "TGI": (
        {"error": "Input validation error: `inputs` must have less than 4096 tokens.", "error_type": "validation"},
        "Input validation error: `inputs` must have less than 4096 tokens.",
    ),
    "Ollama": (
        {"error": {"message": "invalid message content type", "type": "invalid_request_error", "param": None}},
        "invalid message content type",
    ),
    "Together": (
        {
            "id": "x",
            "error": openai("`inputs` tokens + `max_new_tokens` must be <= 8193.", param="max_tokens")["error"],
        },
        "`inputs` tokens + `max_new_tokens` must be <= 8193.",
    ),
    "Fireworks": (
        {"error": {"object": "error", "type": "invalid_request_error", "message": "The prompt is too long: 9001."}},
        "The prompt is too long: 9001.",
    ),
    "DeepSeek, 422": (
        openai(
            "Failed to deserialize the JSON body into the target type: messages[0].role: unknown variant `king`",
            code="invalid_request_error",
        ),
        "Failed to deserialize the JSON body into the target type: messages[0].role: unknown variant `king`",
    ),
    "xAI": (
        {"code": "Client specified an invalid argument", "error": "The model expects a single `text` element."},
        "The model expects a single `text` element.",
    ),
    "plain": ({"message": "Too long."}, "Too long."),
}
"""Errors about the input of the customer, each with the message that the customer gets."""

OPERATORS: dict[str, tuple[Any, str]] = {
    "OpenAI, key": (openai("No.", code="invalid_api_key"), "credentials"),
    "OpenAI, organization": (openai("Your organization must be verified to use this model."), "credentials"),
    "OpenAI, quota": (openai("You exceeded your current quota.", type="insufficient_quota"), "quota"),
    "OpenAI, hard limit": (openai("No.", code="billing_hard_limit_reached"), "quota"),
    "OpenAI, model": (openai("The model `x` does not exist.", code="model_not_found"), "model settings"),
    "OpenAI, limit field": (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
            " instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        "model settings",
    ),
    "older upstreams, limit field": (
        openai("Unrecognized request argument supplied: max_completion_tokens"),
        "model settings",
    ),
    "Azure, operation": (
        {
            "error": {
                "code": "OperationNotSupported",
                "message": "The chatCompletion operation does not work with the specified model, x.",
            }
        },
        "model settings",
    ),
    "Azure, deployment": (
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        "model settings",
    ),
    "Azure, version": (
        openai("Model x is enabled only for api-version 2024-12-01-preview and later"),
        "model settings",
    ),
    "Anthropic, credit": (
        openai("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."),
        "quota",
    ),
    "Anthropic, usage limit": (openai("You have reached your specified API usage limits."), "quota"),
    "Anthropic, organization": (openai("This organization has been disabled."), "credentials"),
    "vLLM, model": (
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        "model settings",
    ),
    "LiteLLM, model": (
        {
            "error": {
                "message": {
                    "error": "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view"
                    " available models for your key."
                },
                "type": "None",
                "param": "None",
                "code": "400",
            }
        },
        "model settings",
    ),
    "LiteLLM, no such model": (
        {
            "error": {
                "message": "litellm.BadRequestError: You passed in model=x. There is no 'model_name' with this string",
                "type": None,
                "param": None,
                "code": "400",
            }
        },
        "model settings",
    ),
    "Gemini, key": (
        [
            {
                "error": {
                    "code": 400,
                    "message": "Please pass a valid one.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
                }
            }
        ],
        "credentials",
    ),
    "Gemini, place": (
        [
            {
                "error": {
                    "code": 400,
                    "message": "User location is not supported for the API use.",
                    "status": "FAILED_PRECONDITION",
                }
            }
        ],
        "credentials",
    ),
    "OpenRouter, model": ({"error": {"message": "x/y is not a valid model ID", "code": 400}}, "model settings"),
    "OpenRouter, its key": (openrouter(openai("No.", code="invalid_api_key")), "credentials"),
    "OpenRouter, limited": (openrouter("x is temporarily limited: your account has no credit balance."), "credentials"),
    "Groq, model": (
        openai("The model `x` has been decommissioned and is no longer supported.", code="model_decommissioned"),
        "model settings",
    ),
    "Mistral, model": (
        {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "param": None, "code": "1500"},
        "model settings",
    ),
    "Mistral, limit field": (
        {
            "object": "error",
            "message": {"detail": [fault("store"), fault("max_completion_tokens")]},
            "type": "invalid_request_error",
        },
        "model settings",
    ),
    "FastAPI, model": ({"detail": [fault("model", text="No such thing.")]}, "model settings"),
    "FastAPI, header": (
        {"detail": [{"type": "missing", "loc": ["header", "authorization"], "msg": "Field required"}]},
        "credentials",
    ),
    "DeepSeek, model": (openai("Model Not Exist", code="invalid_request_error"), "model settings"),
    "DeepSeek, balance": (openai("Insufficient Balance", type="unknown_error"), "quota"),
    "xAI, key": (
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai.",
        },
        "credentials",
    ),
    "DashScope": (
        openai("Access denied, please make sure your account is in good standing.", code="Arrearage"),
        "credentials",
    ),
    "Bedrock, model": ({"message": "The provided model identifier is invalid."}, "model settings"),
    "Bedrock, throughput": (
        {"message": "Invocation of model ID x with on-demand throughput isn't supported. Use an inference profile."},
        "model settings",
    ),
    "server error": (openai("It failed.", type="server_error"), "the upstream itself"),
}
"""Errors that only the operator can fix, each with its subject."""
