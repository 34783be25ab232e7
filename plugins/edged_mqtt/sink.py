"""The sink: finals, partials and state as topics of a broker, which may come and go.

Finals are sent at least once, and kept for a broker that is away; what is true now (state, engine,
mute, whether somebody speaks) is retained by the broker, and told anew with each connection.
Hermes' messages are orders to somebody: late they do harm, so they are sent now or not at all.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edged.errors import ConfigurationError, EdgedError
from edged.sink import TranscriptSink
from edged_mqtt import hermes

if TYPE_CHECKING:  # pydantic takes a tenth of a second, in every process that looks for plugins
    from edged_mqtt.settings import Settings

log = logging.getLogger(__name__)

MICROPHONE = "microphone"
KEEPALIVE_SECONDS = 30
SHORTEST_WAIT, LONGEST_WAIT = 1, 60
"""Seconds between tries to reach the broker"""
KEPT = 256
"""Finals kept for a broker that is away"""
GOODBYE_SECONDS = 1.0
AT_MOST_ONCE, AT_LEAST_ONCE = 0, 1
ON, OFF = "ON", "OFF"
COMMANDS = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


class MqttSink(TranscriptSink):
    """Publishes to one broker; paho-mqtt's own thread keeps the connection."""

    name = "mqtt"
    needs_settings = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from edged_mqtt.settings import read

        self._settings = read(settings)
        self._retained = _at_first(self._settings)
        """What the broker is to hold, by topic"""
        self._lock = threading.Lock()
        """What is retained reaches the broker in the order in which it became so"""
        self._muted = False
        self._trouble: str | None = None
        self._mute: Callable[[bool], None] | None = None
        self._puzzled = False
        """Whether an order made no sense, which is said once a connection"""
        self._client = self._connect()

    def may_mute(self, mute: Callable[[bool], None]) -> None:
        self._mute = mute

    def take(self, stream: str, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "hello":
            self._tell_state(event)
        elif self._concerns(stream) and (handle := self._handlers.get(kind)):
            handle(self, stream, event)

    def close(self) -> None:
        if self._client.is_connected():
            gone = self._publish(self._settings.topic("state"), "offline", retain=True)
            gone.wait_for_publish(GOODBYE_SECONDS)
        self._client.disconnect()
        self._client.loop_stop()

    # -- events ---------------------------------------------------------------------------------

    def _concerns(self, stream: str) -> bool:
        """Whether anything of a stream may leave: of a muted microphone nothing does, not even
        what was said just before."""
        return not self._muted if stream == MICROPHONE else self._settings.clients

    def _tell_state(self, hello: Mapping[str, Any]) -> None:
        self._muted = hello["muted"]
        self._put("mute", ON if self._muted else OFF)
        if self._muted:
            self._put("speaking", OFF)
        engine = hello["engine"]
        self._put("engine", json.dumps(engine))
        trouble = None if engine["effective"] else engine["reason"]
        if trouble and trouble != self._trouble:
            self._complain("engine", trouble)
        self._trouble = trouble

    def _began(self, stream: str, event: Mapping[str, Any]) -> None:
        if stream == MICROPHONE:
            self._put("speaking", ON)

    def _partial(self, stream: str, event: Mapping[str, Any]) -> None:
        if self._settings.partials:
            self._publish_now(self._settings.topic("partial"), {"stream": stream, **event})

    def _final(self, stream: str, event: Mapping[str, Any]) -> None:
        if stream == MICROPHONE:
            self._put("speaking", OFF)
        if not event["text"]:
            return
        self._publish(self._settings.topic("final"), json.dumps({"stream": stream, **event}))
        if self._settings.hermes:
            self._publish_now(hermes.CAPTURED, hermes.captured(event, self._settings.site))

    def _gap(self, stream: str, event: Mapping[str, Any]) -> None:
        if event["reason"] not in {"muted", "playback"}:
            seconds = event["end"] - event["start"]
            self._complain(event["reason"], f"{seconds:.1f} s of {stream} were not heard")

    _handlers = {  # noqa: RUF012  of a class, never changed
        "speech_started": _began,
        "partial": _partial,
        "final": _final,
        "gap": _gap,
    }

    def _complain(self, what: str, context: str) -> None:
        if self._settings.hermes:
            self._publish_now(hermes.ERROR, hermes.error(what, context, self._settings.site))

    # -- publishing -----------------------------------------------------------------------------

    def _put(self, name: str, payload: str) -> None:
        """Say what is true from now on; what is said already is not said again."""
        topic = self._settings.topic(name)
        with self._lock:
            if self._retained.get(topic) != payload:
                self._retained[topic] = payload
                if self._client.is_connected():
                    self._publish(topic, payload, retain=True)

    def _publish_now(self, topic: str, message: Mapping[str, Any]) -> None:
        """At most once, and not at all while the broker is away."""
        if self._client.is_connected():
            self._client.publish(topic, json.dumps(message), AT_MOST_ONCE)

    def _publish(self, topic: str, payload: str, retain: bool = False) -> Any:
        """At least once. Raises EdgedError when too much waits for the broker already."""
        sent = self._client.publish(topic, payload, AT_LEAST_ONCE, retain)
        if sent.rc == _queue_full():
            host, port = self._settings.broker
            raise EdgedError(
                f"{KEPT} messages wait for the broker at {host}:{port}; this one is dropped",
                code="broker_away",
            )
        return sent

    # -- connection -----------------------------------------------------------------------------

    def _connect(self) -> Any:
        """A client that goes on trying for ever. Raises EdgedError where it cannot even begin."""
        settings = self._settings
        client = _new_client(settings)
        client.will_set(settings.topic("state"), "offline", AT_LEAST_ONCE, retain=True)
        client.max_queued_messages_set(KEPT)
        client.reconnect_delay_set(SHORTEST_WAIT, LONGEST_WAIT)
        client.on_connect = self._connected
        client.on_connect_fail = lambda *_: self._unreachable(f"it cannot be reached{_why()}")
        client.on_disconnect = lambda *rest: self._lost(rest[3])
        client.on_message = lambda _client, _userdata, message: self._obey(message)
        self._complaints: set[str] = set()
        client.connect_async(*settings.broker, KEEPALIVE_SECONDS)
        client.loop_start()
        return client

    def _connected(self, client: Any, _userdata: Any, _flags: Any, code: Any, *_: Any) -> None:
        if code.is_failure:
            self._unreachable(f"it refuses ({code}); see username and password_file")
            return
        self._complaints.clear()
        self._puzzled = False
        log.info("publishing to %s:%d below %s", *self._settings.broker, self._settings.topic(""))
        if self._settings.allow_commands:
            client.subscribe(self._settings.topic("mute/set"), AT_LEAST_ONCE)
        with self._lock:
            for topic, payload in self._retained.items():
                client.publish(topic, payload, AT_LEAST_ONCE, retain=True)

    def _lost(self, code: Any) -> None:
        if code.is_failure:
            self._unreachable(f"the connection broke ({code})")

    def _unreachable(self, why: str) -> None:
        """Log it, once until it is well again."""
        if why not in self._complaints:
            log.warning("broker %s:%d: %s; it is tried again", *self._settings.broker, why)
        self._complaints.add(why)

    def _obey(self, message: Any) -> None:
        """An order to mute or unmute; one that was retained is old, and not for us."""
        order = COMMANDS.get(message.payload[:8].decode("ascii", "replace").strip().lower())
        if message.retain or self._mute is None:
            return
        if order is not None:
            self._mute(order)
        elif not self._puzzled:
            log.warning("%s takes ON or OFF", self._settings.topic("mute/set"))
            self._puzzled = True


def _at_first(settings: Settings) -> dict[str, str]:
    from edged_mqtt import discovery

    retained = {settings.topic("state"): "online", settings.topic("speaking"): OFF}
    if settings.discovery:
        for topic, configuration in discovery.entities(settings):
            retained[topic] = json.dumps(configuration) if configuration else ""
    return retained


def _why() -> str:
    """The reason, which paho-mqtt is handling when it tells us that there is one."""
    error = sys.exc_info()[1]
    return f" ({error})" if error else ""


def _queue_full() -> Any:
    from paho.mqtt.client import MQTT_ERR_QUEUE_SIZE

    return MQTT_ERR_QUEUE_SIZE


def _new_client(settings: Settings) -> Any:
    """Not yet connected. Raises EdgedError when paho-mqtt, a password or a certificate is not
    there."""
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise EdgedError(
            "MQTT needs paho-mqtt. Run: pip install 'edged[mqtt]'", code="missing_library"
        ) from error
    from edged_mqtt.settings import read_password

    password = read_password(settings.password_file)
    # The same name each time: a broker that has not yet noticed the end of an earlier connection
    # says its last will before it takes this one, not after.
    client = Client(CallbackAPIVersion.VERSION2, f"{settings.prefix}-{settings.name}")
    if settings.username is not None:
        client.username_pw_set(settings.username, password)
    if settings.tls:
        _encrypt(client, settings)
    return client


def _encrypt(client: Any, settings: Settings) -> None:
    import ssl

    try:
        context = ssl.create_default_context()
        if settings.ca_file:
            context.load_verify_locations(settings.ca_file)
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"sinks.mqtt: a certificate cannot be used: {error}") from error
    client.tls_set_context(context)
