"""Checks of a deployment target as such: what `deploy` and an endpoint promise."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, Endpoint
from affidavit.interfaces.model import Predictions
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.model.subject import apart
from affidavit.testing.kinds.target.subject import TASKS, TargetSubject
from affidavit.testing.report import Tier

ROUNDING = 1e-6
"""How far an answer may lie from the model's own: on its road it may be written in single precision."""

SETTLE_SECONDS = 2.0
"""How long a stopped endpoint's threads may take to end."""

MARK = "kit-mark-41f7"
"""Stands in rows, and must stand in no log and no error."""


@check("target", Tier.API)
def target_is_what_it_registered(subject: TargetSubject) -> None:
    """The class is a `Deployment`, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Deployment)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.Deployment.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")


@check("target", Tier.API)
def an_endpoint_answers_as_the_model_does(subject: TargetSubject) -> None:
    """For two classes, several classes and numbers an endpoint gives the model's own values, classes and probabilities."""
    rows = subject.rows()
    for task in TASKS:
        own = subject.predictor(task).predict(rows)
        with subject.running(subject.predictor(task)) as endpoint:
            _same(own, endpoint.predict(rows), f"for a {task} model")


@check("target", Tier.API)
def an_endpoint_finds_columns_by_name(subject: TargetSubject) -> None:
    """Columns in another order, and columns that the model does not know, change no answer of an endpoint."""
    rows = subject.rows()
    turned = rows.table.select(list(reversed(rows.schema.names))).append_column("kit_extra", pa.array(["x"] * len(rows)))
    other = Dataset.from_arrow(turned, name="other-order", fields={field.name: {"type": str(field.type)} for field in rows.schema})
    own = subject.predictor().predict(rows)
    with subject.running(subject.predictor()) as endpoint:
        _same(own, endpoint.predict(other), "where columns stand in another order")


@check("target", Tier.API)
def an_endpoint_answers_an_empty_batch(subject: TargetSubject) -> None:
    """No rows give no answers, with the classes."""
    for task in TASKS:
        predictor = subject.predictor(task)
        with subject.running(predictor) as endpoint:
            found = endpoint.predict(subject.rows(0))
        if len(found) != 0 or tuple(found.classes) != tuple(predictor.signature.classes):
            raise CheckFailed(f"an empty batch for a {task} model must give an empty answer with the model's classes.")


@check("target", Tier.API)
def an_endpoint_refuses_bad_rows_and_lives_on(subject: TargetSubject) -> None:
    """Rows that lack a column or hold text for a number raise InvalidInput, and the next rows are answered."""
    rows = subject.rows()
    own = subject.predictor().predict(rows)
    with subject.running(subject.predictor()) as endpoint:
        for what, bad in _bad(rows):
            try:
                endpoint.predict(bad)
            except InvalidInput:
                continue
            except Exception as error:
                raise CheckFailed(f"{what} raised {type(error).__name__}, not InvalidInput.") from error
            finally:
                _same(own, endpoint.predict(rows), f"after {what}")
            raise CheckFailed(f"{what} was answered: an endpoint must pass InvalidInput on.")


@check("target", Tier.API)
def an_endpoint_is_healthy_until_it_is_stopped(subject: TargetSubject) -> None:
    """`healthy` is true while it runs and false after `stop`; stopping twice is harmless; a stopped endpoint answers nothing."""
    endpoint = subject.deploy(subject.predictor())
    try:
        if endpoint.healthy() is not True:
            raise CheckFailed("an endpoint that was just deployed must be healthy.")
    finally:
        endpoint.stop()
    if endpoint.healthy() is not False:
        raise CheckFailed("a stopped endpoint says that it is healthy.")
    try:
        endpoint.stop()
    except Exception as error:
        raise CheckFailed(f"stopping a second time raised {type(error).__name__}: it must be harmless.") from error
    try:
        endpoint.predict(subject.rows())
    except AffidavitError:
        return
    except Exception as error:
        raise CheckFailed(f"asking a stopped endpoint raised {type(error).__name__}: raise UsageError or AffidavitError.") from error
    raise CheckFailed("a stopped endpoint still answers: let go of the predictor in stop.")


@check("target", Tier.API)
def leaving_the_with_block_stops_an_endpoint(subject: TargetSubject) -> None:
    """An endpoint in a `with` block is itself inside it and stopped after it, also where the block raises."""
    endpoint = subject.deploy(subject.predictor())
    try:
        with suppress(ZeroDivisionError), endpoint as inside:
            if inside is not endpoint:
                raise CheckFailed("__enter__ must return the endpoint itself.")
            raise ZeroDivisionError
        if endpoint.healthy() and _answers(endpoint, subject.rows(1)):
            raise CheckFailed("it still runs after the with block: __exit__ must stop it.")
    finally:
        with suppress(Exception):  # the check of stop tells of it
            endpoint.stop()


@check("target", Tier.API)
def an_unknown_target_option_is_refused(subject: TargetSubject) -> None:
    """An option that the target does not know raises UsageError, so that a typo is no silent default."""
    try:
        endpoint = subject.value().deploy(subject.predictor(), **{**subject.options(), "surely_no_such_option": 1})
    except UsageError:
        return
    except Exception as error:
        raise CheckFailed(f"an unknown option raised {type(error).__name__}, not UsageError.") from error
    with suppress(Exception):
        endpoint.stop()
    raise CheckFailed("an unknown option was accepted: name the options, and raise UsageError for any other.")


@check("target", Tier.API)
def threads_may_ask_an_endpoint_at_once(subject: TargetSubject) -> None:
    """Four threads that ask about different rows get the answers that each gets alone."""
    rows = subject.rows(16)
    parts = [rows.take(np.arange(start, 16, 4)) for start in range(4)]
    own = subject.predictor()
    alone = [own.predict(part) for part in parts]
    with subject.running(subject.predictor()) as endpoint, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            for mine, found in zip(alone, pool.map(endpoint.predict, parts), strict=True):
                _same(mine, found, "where several threads ask at once")


@check("target", Tier.API)
def two_endpoints_do_not_disturb_each_other(subject: TargetSubject) -> None:
    """Two endpoints of different models answer each for its own, and one lives on where the other is stopped."""
    rows = subject.rows()
    first, second = (subject.predictor(task).predict(rows) for task in ("binary", "multiclass"))
    with subject.running(subject.predictor("binary")) as one:
        with subject.running(subject.predictor("multiclass")) as other:
            _same(first, one.predict(rows), "beside a second endpoint")
            _same(second, other.predict(rows), "beside a first endpoint")
        if not one.healthy():
            raise CheckFailed("an endpoint is no longer healthy where another one was stopped: keep nothing on the class.")
        _same(first, one.predict(rows), "where another endpoint was stopped")


@check("target", Tier.API)
def an_endpoint_asks_the_predictor_that_it_was_given(subject: TargetSubject) -> None:
    """Each batch goes to the predictor once, and what comes back is its answer: nothing goes around governance, nothing is remembered."""
    turned = subject.predictor(answer=_turned)
    rows = subject.rows(3)
    with subject.running(turned) as endpoint:
        before = sum(turned.asked)
        found = [endpoint.predict(rows) for _ in range(2)]
        asked = sum(turned.asked) - before
    if asked != 2 * len(rows):
        raise CheckFailed(f"{2 * len(rows)} rows were asked, and {asked} reached the predictor: ask it about each batch, once.")
    own = subject.predictor().predict(rows)
    if any(apart(_turned(own), each) > ROUNDING for each in found):
        raise CheckFailed("the answer is not the predictor's: pass on what its predict gives.")


@check("target", Tier.API)
def a_refusal_of_the_predictor_reaches_whoever_asks(subject: TargetSubject) -> None:
    """Where governance refuses a batch, the endpoint raises AffidavitError, gives no answer, and lives on."""
    refusing: list[bool] = []

    def answer(found: Predictions) -> Predictions:
        if refusing:
            raise Refused("Not these rows.", by="policy", line="kit")
        return found

    rows = subject.rows(3)
    with subject.running(subject.predictor(answer=answer)) as endpoint:
        refusing.append(True)
        try:
            endpoint.predict(rows)
        except AffidavitError:
            refusing.clear()
        except Exception as error:
            raise CheckFailed(f"a refusal came out as {type(error).__name__}: pass it on, or raise AffidavitError.") from error
        else:
            raise CheckFailed("a batch that governance refuses was answered.")
        if len(endpoint.predict(rows)) != len(rows):
            raise CheckFailed("after a refusal the next batch is not answered.")


@check("target", Tier.API)
def stopping_an_endpoint_frees_what_it_held(subject: TargetSubject) -> None:
    """After `stop` no thread, listening socket or child process of the endpoint is left."""
    with subject.running(subject.predictor()) as first:
        first.predict(subject.rows(2))  # a library may begin something for the whole process when it is first used
    with freed("after stop") as settle:
        endpoint = subject.deploy(subject.predictor())
        endpoint.predict(subject.rows(2))
        endpoint.stop()
        settle()


@check("target", Tier.API)
def no_log_and_no_error_of_a_target_quotes_a_row(subject: TargetSubject) -> None:
    """Nothing that it logs, prints or raises repeats a value of the rows, be they good or bad."""
    good = subject.rows(3)
    marked = good.replace_column("colour", pa.array([MARK] * len(good)))
    written: list[str] = []
    with _overheard(written), subject.running(subject.predictor()) as endpoint:
        endpoint.predict(marked)
        for _, bad in _bad(marked):
            try:
                endpoint.predict(bad)
            except Exception as error:
                written += [str(each) for each in _chain(error)]
    if any(MARK in text for text in written):
        raise CheckFailed("a value of the rows stands in a log, in what is printed, or in an error: name columns and counts instead.")


def held() -> set[tuple[str, Any]]:
    """What this process holds and must give back: threads, listening sockets (POSIX), child processes (Linux)."""
    found: set[tuple[str, Any]] = {("thread", each) for each in threading.enumerate()}
    descriptors = Path("/dev/fd")
    for name in os.listdir(descriptors) if descriptors.is_dir() else ():  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):  # the folder's own descriptor is gone by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.add(("listening socket", each.getsockname()))
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            found |= {("child process", int(number)) for number in children.read_text().split()}
    return found


@contextmanager
def freed(when: str) -> Iterator[Callable[[], None]]:
    """Give a function that raises CheckFailed where the block has left more than there was before it."""
    before = held()

    def settle() -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := held() - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        if left:
            raise CheckFailed(f"{when} it still holds {', '.join(sorted(f'a {what}' for what, _ in left))}: end, close and join what it began.")

    yield settle


def _same(own: Predictions, found: Predictions, where: str) -> None:
    if not isinstance(found, Predictions):
        raise CheckFailed(f"predict gave {type(found).__name__}, not Predictions.")
    if len(found) != len(own):
        raise CheckFailed(f"{where} an endpoint gave {len(found)} answers for {len(own)} rows.")
    if tuple(found.classes) != tuple(own.classes) or (found.probabilities is None) != (own.probabilities is None):
        raise CheckFailed(f"{where} the classes are not the model's in its order, or probabilities got lost.")
    named = not own.classes or [str(value) for value in found.values] == [str(value) for value in own.values]
    if not named or apart(own, found) > ROUNDING:
        raise CheckFailed(f"{where} an endpoint answers otherwise than the model.")


def _answers(endpoint: Endpoint, rows: Dataset) -> bool:
    try:
        endpoint.predict(rows)
    except Exception:
        return False
    return True


def _turned(found: Predictions) -> Predictions:
    """Another answer to the same rows."""
    assert found.probabilities is not None
    probabilities = 0.5 * found.probabilities[:, ::-1] + 0.25
    return Predictions(np.array(found.classes)[probabilities.argmax(axis=1)], found.classes, probabilities)


def _bad(rows: Dataset) -> list[tuple[str, Dataset]]:
    names = list(rows.schema.names)
    return [
        ("a batch that lacks a column", rows.select(names[1:])),
        ("a batch with text for numbers", rows.replace_column("number", pa.array([MARK] * len(rows)), type="categorical")),
    ]


@contextmanager
def _overheard(written: list[str]) -> Iterator[None]:
    """Collect what is logged and printed meanwhile."""
    printed = io.StringIO()
    handler = logging.Handler(logging.NOTSET)
    handler.emit = lambda record: written.append(f"{record.getMessage()} {record.exc_info}")  # type: ignore[method-assign]  # all that is wanted
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        written.append(printed.getvalue())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that stand behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
