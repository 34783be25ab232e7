"""The announcement of Wyoming's port on the network, by multicast DNS."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edged.errors import ConfigurationError
from edged.log import get_logger

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

log = get_logger(__name__)

SERVICE = "_wyoming._tcp.local."


def require() -> None:
    """Raise ConfigurationError where the package that does it is not installed."""
    if find_spec("zeroconf") is None:
        raise ConfigurationError(
            "wyoming.zeroconf needs a package. Run: pip install 'edged[wyoming]'"
        )


@contextlib.asynccontextmanager
async def announced(host: str, port: int) -> AsyncIterator[None]:
    """While it is, others on the network find it; a network that cannot do that is no failure."""
    from zeroconf import Error, IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    async with contextlib.AsyncExitStack() as stack:
        try:
            zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
            stack.push_async_callback(zeroconf.async_close)  # which says goodbye, too
            service = _service(host, port)
            await (await zeroconf.async_register_service(service, allow_name_change=True))
        except (OSError, Error) as error:
            log.warning("wyoming cannot be announced on the network: %s", error)
        yield


def _service(host: str, port: int) -> ServiceInfo:
    from zeroconf import ServiceInfo

    machine = socket.gethostname()
    name = f"edged on {machine}"[:63].replace(".", " ")
    return ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        parsed_addresses=_addresses(host),
        server=f"{machine.partition('.')[0]}.local.",
    )


def _addresses(host: str) -> list[str]:
    """Where a host that we listen on is reached: any address of this machine stands for all."""
    import ifaddr

    one = socket.getaddrinfo(host, None)[0][4][0]
    if not ipaddress.ip_address(one).is_unspecified:
        return [str(one)]
    own = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [address for address in own if not ipaddress.ip_address(address).is_loopback]
