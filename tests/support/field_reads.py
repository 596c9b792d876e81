"""Which fields of a query or form the handlers read: a field that no handler reads needs no test of its values."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import Response

from tok0n.web.rendering.page_request import PageRequest


class FieldReads:
    """The names that pages have read since `clear`, whether a request had them or not.

    The API reads queries without a `PageRequest`, so any field may be one that it reads.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._names: set[str] = set()
        self._is_page = False
        read_form, query, to_sign_in = PageRequest.read_form, PageRequest.query, PageRequest.to_sign_in

        async def recorded_form(page: PageRequest) -> None:
            self._is_page = True
            await read_form(page)
            page.form, page.choices = _Fields(page.form, self._names), _Fields(page.choices, self._names)

        async def recorded_redirect(page: PageRequest) -> Response:
            self._is_page = True
            return await to_sign_in(page)

        def recorded_query(page: PageRequest, name: str) -> str:
            self._names.add(name)
            return query(page, name)

        patch.setattr(PageRequest, "read_form", recorded_form)
        patch.setattr(PageRequest, "query", recorded_query)
        patch.setattr(PageRequest, "to_sign_in", recorded_redirect)

    def clear(self) -> None:
        """Begin with another endpoint."""
        self._names.clear()
        self._is_page = False

    def may_read(self, name: str) -> bool:
        """Whether the handler of the endpoint has read this field, or isn't one of a page."""
        return name in self._names or not self._is_page


class _Fields(dict[str, Any]):
    """The fields of a form. Records which of them are read. Iterating reads all."""

    def __init__(self, fields: dict[str, Any], names: set[str]) -> None:
        super().__init__(fields)
        self._names = names

    def get(self, name: str, default: Any = None) -> Any:
        self._names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self._names.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._names.add(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._names.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._names.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        self._names.update(super().keys())
        return super().items()
