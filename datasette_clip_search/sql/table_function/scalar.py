"""The C function that SQLite calls to run a scalar function."""

from ctypes import c_int, c_void_p
from functools import cache

from ...common.interrupts import heed_if_due
from .connections import connection_at
from .declaration import ScalarFunction
from .failures import Failures, nesting
from .library import FunctionError, Library, address_of, callback, keep_for_ever
from .scalar_cache import CachedResult, cache_result, cached_result
from .structures import SQLITE_ERROR


@cache
def scalar_callback(
    library: Library, function: ScalarFunction, expected: tuple[type[BaseException], ...]
) -> int | None:
    """Make the callback of a scalar function and return its address."""
    describe = Failures(function.name, expected).describe
    least, most = function.min_arguments, function.max_arguments
    bounds = f"at least {least}" if most < 0 else f"{least} to {most}"

    def answer(context: int, argc: int, argv: int) -> None:
        if argc < least or -1 < most < argc:
            raise FunctionError(f"expected {bounds} arguments but received {argc}")
        connection = connection_at(library.user_data(context))
        heed_if_due(connection)
        changes = connection.total_changes
        if function.steady and (cached := cached_result(library, context, argc, changes)):
            library.give(context, cached.value)
            return
        arguments = library.arguments(argc, argv, function.limits)
        with nesting:
            value = function.function(connection, *arguments)
        library.give(context, value)
        if function.steady and changes == connection.total_changes:
            cache_result(library, context, argc, CachedResult(value, changes))
        heed_if_due(connection)

    @callback(None, c_void_p, c_int, c_void_p)
    def x_func(context: int, argc: int, argv: int) -> None:
        try:
            try:
                answer(context, argc, argv)
            except FunctionError as error:
                raise FunctionError(f"{function.name}(): {error}") from None
        except BaseException as error:
            text, code = describe(error)
            library.result_error(context, text, len(text))
            if code != SQLITE_ERROR:
                library.result_error_code(context, code)

    keep_for_ever(x_func)
    return address_of(x_func)
