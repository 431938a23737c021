"""A server in numbers, at the terminal: ``gradwire top``."""

from __future__ import annotations

import sys
from time import sleep, time

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import gradwire as gw
from gradwire_server.command.arguments import Top
from gradwire_server.command.page import Page, quantile, read
from gradwire_server.command.terminal import console
from gradwire_server.configuration.help import human

CALLS, LATENCY, COMPUTE = "grpc_server_handled_total", "grpc_server_handling_seconds", "gradwire_compute_seconds"
QUANTILES = (0.5, 0.95, 0.99)


def top(command: Top) -> None:
    """Print what happened since a server started, or show what happens until somebody ends it.

    Raises:
        GradwireError: The page cannot be read, or the output is no terminal.
    """
    last = read(command.url)
    if command.once:
        console().print(view(last, _since_its_start(last)))
        return
    if not sys.stdout.isatty():
        raise gw.UsageError("the output is no terminal; --once shows one look")
    out = console()
    with Live(view(last, _since_its_start(last)), console=out, screen=True, auto_refresh=False) as live:
        while True:
            sleep(command.interval)
            try:
                page = read(command.url)
            except gw.GradwireError as error:
                # It may come back.
                live.update(Group(view(last, last.since(last)), Text(f"\n{error}", "bold red")), refresh=True)
                continue
            live.update(view(page, page.since(last)), refresh=True)
            last = page


def _since_its_start(page: Page) -> Page:
    start = page.total("process_start_time_seconds") or page.at
    return Page(page.at - start, page.samples)


def view(now: Page, recent: Page) -> Group:
    """What is shown of a page, and of what was counted in some seconds before it."""
    return Group(_head(now, recent), "", _calls(now, recent), "", _engine(now, recent))


def _head(now: Page, recent: Page) -> Text:
    version = ", ".join(now.values("gradwire_build_info", "version"))
    start = now.total("process_start_time_seconds")
    facts = [f"gradwire {version}"]
    if start:
        facts.append(f"up {_duration(max(0.0, time() - start))}")
    if "gradwire_workers_serving" in now.samples:
        facts.append(f"{now.total('gradwire_workers_serving'):.0f} workers")
    facts.append(f"rates over {_duration(recent.at)}")
    return Text(", ".join(facts), "bold")


def _calls(now: Page, recent: Page) -> Table:
    table = Table("method", "code", box=None, pad_edge=False, header_style="bold")
    for column in ("calls", "a second", *(f"p{100 * each:g}" for each in QUANTILES)):
        table.add_column(column, justify="right")
    for method in now.values(CALLS, "grpc_method"):
        codes = [
            code for code in now.values(CALLS, "grpc_code") if now.total(CALLS, grpc_method=method, grpc_code=code)
        ]
        # The time of calls is counted by method.
        found = [quantile(each, recent, LATENCY, grpc_method=method) for each in QUANTILES]
        times = ["" if each is None else _time(each) for each in found]
        for number, code in enumerate(codes):
            labels = {"grpc_method": method, "grpc_code": code}
            table.add_row(
                method if number == 0 else "",
                code,
                f"{now.total(CALLS, **labels):,.0f}",
                _rate(recent, CALLS, **labels),
                *(times if number == 0 else [""] * len(times)),
                style="" if code == "OK" else "red",
            )
    if not table.row_count:
        table.add_row("no call has ended yet")
    return table


def _engine(now: Page, recent: Page) -> Table:
    seconds, held = recent.at or 1.0, now.total("gradwire_programs_cached")
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("engine, cores busy", f"{recent.total(f'{COMPUTE}_sum') / seconds:.2f}"),
        ("engine, p99", _time(quantile(0.99, recent, COMPUTE) or 0.0)),
        ("examples a second", _rate(recent, "gradwire_examples_processed_total")),
        ("nodes a second", _rate(recent, "gradwire_nodes_processed_total")),
        ("graphs held", f"{held:,.0f}, {_bytes(now, 'gradwire_programs_cached_bytes')}"),
        ("not finite", f"{now.total('gradwire_non_finite_total'):,.0f}"),
        ("requests in flight", f"{now.total('gradwire_requests_in_flight'):,.0f}"),
        ("turned away", f"{now.total('gradwire_requests_refused_total'):,.0f}"),
        ("received a second", f"{_human(recent.total('gradwire_received_bytes_total') / seconds)}"),
        ("sent a second", f"{_human(recent.total('gradwire_sent_bytes_total') / seconds)}"),
        ("memory", _bytes(now, "process_resident_memory_bytes")),
        ("memory of requests", _bytes(now, "gradwire_requests_in_flight_memory_bytes")),
        ("processor", f"{100 * recent.total('process_cpu_seconds_total') / seconds:.0f} %"),
        ("event loop late, p99", _time(quantile(0.99, recent, "gradwire_event_loop_delay_seconds") or 0.0)),
    ]
    for left, right in zip(rows[::2], rows[1::2], strict=True):
        table.add_row(*left, *right)
    return table


def _rate(recent: Page, name: str, **labels: str) -> str:
    return f"{recent.total(name, **labels) / (recent.at or 1.0):,.1f}"


def _bytes(page: Page, name: str) -> str:
    return _human(page.total(name))


def _human(amount: float) -> str:
    """Bytes in the largest unit of which there is one."""
    power = 0
    while amount >= 1024 and power < 4:
        amount, power = amount / 1024, power + 1
    return f"{amount:,.1f} {human(1024**power).split()[1]}" if power else f"{amount:,.0f} B"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return "0"


def _duration(seconds: float) -> str:
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds:.0f} s"
