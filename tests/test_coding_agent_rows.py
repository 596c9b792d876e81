"""What coding agents need of a gateway, by number, and the tests that prove each need.

Source: Codex 0.171.0, Claude Code 2.1.197 and 2.1.332, and opencode 1.18.33 against a recording server, on 2026-11-28.
The real agents run in `tests/clients/test_agents.py` and `tests/clients/test_recipes.py`.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RESPONSES = "domain/test_responses_agents.py"
MESSAGES = "domain/test_messages_agents.py"
ERRORS = "e2e/test_coding_agents.py"
ENDPOINTS = "e2e/test_endpoints.py"

ROWS: dict[int, tuple[str, list[str]]] = {
    1: (
        "responses: accept what Codex sends, and forward no client_metadata",
        [
            f"{RESPONSES}::test_what_an_agent_sends_travels",
            f"{RESPONSES}::test_private_metadata_neither_travels_nor_counts",
        ],
    ),
    2: (
        "responses: accept each tool and item of Codex, and find hosted tools in all three places",
        [
            f"{RESPONSES}::test_what_an_agent_sends_travels",
            "domain/test_hosted_tools.py::test_a_hosted_tool_is_dropped_and_named",
            "domain/test_responses_items.py::test_every_documented_item_travels_or_is_rejected_by_name",
        ],
    ),
    3: (
        "messages: accept ?beta=true, both key headers, whole and streamed requests of any size",
        [
            f"{ENDPOINTS}::test_messages_take_their_key_and_give_errors_as_anthropics_sdk_expects",
            f"{MESSAGES}::test_every_member_travels_whole_streamed_and_counted",
            f"{MESSAGES}::test_bodies_of_any_usual_size_are_read",
        ],
    ),
    4: ("messages: accept the members", [f"{MESSAGES}::test_every_member_travels_whole_streamed_and_counted"]),
    5: (
        "messages: forward a beta and its members together, or neither",
        [
            f"{MESSAGES}::test_every_beta_travels",
            "domain/test_messages_betas.py::test_a_beta_that_is_dropped_takes_its_members_with_it",
        ],
    ),
    6: (
        "count_tokens: serve 24 at once, outside the concurrency limit",
        [
            f"{ERRORS}::test_24_counts_at_once_are_served_by_default",
            f"{ENDPOINTS}::test_counting_tokens_costs_nothing_and_takes_no_concurrency",
        ],
    ),
    7: ("serve four streams of one account", [f"{ERRORS}::test_four_streams_of_one_account_run_at_once_by_default"]),
    8: (
        "accept unknown headers, and a HEAD without a key",
        [
            f"{ERRORS}::test_unknown_headers_are_accepted_and_not_forwarded",
            f"{ERRORS}::test_the_first_request_of_claude_code_needs_no_key",
        ],
    ),
    9: (
        "messages: reject safeguards and web search in words that Claude Code understands",
        [
            f"{MESSAGES}::test_safeguards_are_refused_in_words_after_which_claude_code_goes_on",
            f"{MESSAGES}::test_the_web_search_of_claude_code_is_an_error_that_it_hands_to_the_model",
        ],
    ),
    10: (
        "responses: reject by name what no agent sends unasked",
        [f"{RESPONSES}::test_what_an_agent_never_sends_unasked_is_rejected_by_name"],
    ),
    11: (
        "responses: drop the web search that Codex sends by default",
        [
            "domain/test_hosted_tools.py::test_a_hosted_tool_is_dropped_and_named",
            "domain/test_hosted_tools.py::test_the_error_says_how_codex_switches_its_tool_off",
        ],
    ),
    12: (
        "responses: decline a WebSocket with 426",
        [
            f"{ERRORS}::test_a_websocket_is_declined_with_426",
            f"{ENDPOINTS}::test_an_offer_of_a_websocket_is_declined_at_once",
        ],
    ),
    13: (
        "answer stream: true with events that have names, and never with JSON and 200",
        [
            f"{ERRORS}::test_a_stream_is_never_answered_with_json_and_200",
            f"{ERRORS}::test_a_stream_has_named_events",
        ],
    ),
    14: (
        "end a stream that fails with the event that the client reads, and charge nothing",
        [
            "e2e/test_streams.py::test_a_stream_whose_upstream_breaks_off_ends_with_an_error_event_and_costs_nothing",
            "domain/test_responses_stream_failures.py::test_our_failure_continues_the_response_that_the_client_knows",
            "domain/test_messages_stream_failures.py::test_the_error_event_has_the_shape_of_the_endpoint",
        ],
    ),
    15: (
        "say x-should-retry: false where waiting cannot help, say retry-after on 429 and 503, and keep failures cheap",
        [
            f"{ERRORS}::test_a_wrong_key_is_told_not_to_retry",
            f"{ERRORS}::test_a_rate_limit_says_when_to_retry",
            f"{ERRORS}::test_an_overloaded_server_says_when_to_retry",
            f"{ERRORS}::test_failing_requests_take_no_slot_and_cost_nothing",
            "web/test_error_answers.py::test_every_error_has_its_status_and_headers",
        ],
    ),
    16: ("make the message of a 402 complete", [f"{ERRORS}::test_the_message_of_a_402_says_everything_by_itself"]),
    17: (
        "give errors the shape of their API, with x-request-id and request-id",
        [
            f"{ERRORS}::test_an_error_has_the_shape_and_the_ids_that_each_client_reads",
            f"{MESSAGES}::test_errors_have_anthropics_shape_and_the_id_of_the_request",
            "clients/test_node_endpoints.py::test_anthropics_node_sdk_reads_messages_as_they_are_meant",
        ],
    ),
    18: (
        "messages: name the output limit in Anthropic's words",
        [f"{MESSAGES}::test_an_output_limit_over_the_models_is_told_in_words_after_which_claude_code_goes_on"],
    ),
    19: (
        "responses: warn of a default output limit below 32,000",
        ["settings/test_loaded_settings.py::test_a_default_output_limit_that_is_short_for_codex_gets_a_warning"],
    ),
    20: (
        "send an event during a long pause, and no comment",
        [
            f"{MESSAGES}::test_a_silent_stream_sends_an_event_and_no_comment",
            "domain/test_responses_stream.py::test_a_keep_alive_is_an_event_once_the_client_knows_the_response",
        ],
    ),
    21: ("list models in OpenAI's shape", [f"{ERRORS}::test_the_list_of_models_has_openais_shape"]),
}
"""What each row says, and its tests. The numbers are those of the measured list of needs."""


@pytest.mark.parametrize("row", range(1, 22))
def test_every_row_has_tests_that_exist(row: int) -> None:
    _, names = ROWS[row]
    assert names != []
    for name in names:
        path, _, test = name.partition("::")
        assert re.search(rf"^(?:async )?def {test}\(", (TESTS / path).read_text(), re.MULTILINE), name
