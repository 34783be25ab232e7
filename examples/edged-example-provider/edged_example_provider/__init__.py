"""An execution provider for edged, as small as one can be."""

from edged.hookspecs import hookimpl


@hookimpl
def edged_execution_providers():
    from edged_example_provider.provider import Frugal

    return [Frugal()]
