"""Broken deployment targets, at least one for each check, and the sound ones that they are made from."""

from __future__ import annotations

import logging
import socket
import threading
import time

import numpy as np
from tests.conformance.zoo.pen import Pen

from affidavit import Explanation, Predictions
from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, Endpoint
from affidavit.interfaces.model import inside_call
from affidavit.testing.kinds.target.subject import TargetSubject

PEN = Pen(TargetSubject, "zoo.desk")
caught_by = PEN.caught_by
LEFT_OPEN: list[socket.socket] = []


class Desk(Endpoint):
    """Hands each batch to the predictor until it is stopped."""

    def __init__(self, predictor):
        self.predictor = predictor

    def open(self):
        if self.predictor is None:
            raise UsageError("This endpoint was stopped.")
        return self.predictor

    def predict(self, data):
        return self.open().predict(data)

    def explain(self, data, *, method=None, **options):
        return self.open().explain(data, method=method, **options)

    def healthy(self):
        return self.predictor is not None

    def stop(self):
        self.predictor = None


@PEN.passes
class Sound(Deployment):
    type = "zoo.desk"
    Endpoint = Desk

    def deploy(self, predictor, **options):
        if options:
            raise UsageError(f"There is no option '{next(iter(options))}'.")
        return self.Endpoint(predictor)


@PEN.passes
class Listening(Sound):
    """Holds a socket and a thread of its own while it runs, and does not explain."""

    class Endpoint(Desk):
        def __init__(self, predictor):
            super().__init__(predictor)
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.ended = threading.Event()
            self.thread = threading.Thread(target=self.ended.wait)
            self.thread.start()

        explain = Endpoint.explain

        def stop(self):
            super().stop()
            self.ended.set()
            self.thread.join()
            self.listener.close()


@caught_by("target_is_what_it_registered")
class OtherName(Sound):
    type = "zoo.another"


@caught_by("an_endpoint_answers_as_the_model_does")
class RoundsNumbers(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            found = super().predict(data)
            return found if found.classes else Predictions(np.round(found.values, 2))


@caught_by("an_endpoint_finds_columns_by_name")
class GoesByPosition(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            names = list(self.open().signature.inputs.names)
            if len(data.schema) < len(names) or not len(data):
                return super().predict(data)
            first = data.select(data.schema.names[: len(names)])
            return super().predict(Dataset.from_arrow(first.table.rename_columns(names), name="by-position"))


@caught_by("an_endpoint_answers_an_empty_batch")
class NeedsARow(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            if not len(data):
                raise InvalidInput("There are no rows.")
            return super().predict(data)


@caught_by("an_endpoint_refuses_bad_rows_and_lives_on")
class DiesOfBadRows(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            try:
                return super().predict(data)
            except InvalidInput:
                self.stop()
                raise


@caught_by("an_endpoint_refuses_bad_rows_and_lives_on")
class HasErrorsOfItsOwn(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            try:
                return super().predict(data)
            except InvalidInput:
                raise RuntimeError("status 500") from None


@caught_by("an_endpoint_is_healthy_until_it_is_stopped")
class AlwaysHealthy(Sound):
    class Endpoint(Desk):
        def healthy(self):
            return True


@caught_by("an_endpoint_is_healthy_until_it_is_stopped")
class AnswersWhenStopped(Sound):
    class Endpoint(Desk):
        stopped = False

        def healthy(self):
            return not self.stopped

        def stop(self):
            self.stopped = True


@caught_by("an_endpoint_is_healthy_until_it_is_stopped")
class StopsOnce(Sound):
    class Endpoint(Desk):
        def stop(self):
            if self.predictor is None:
                raise ValueError("not running")
            super().stop()


@caught_by("leaving_the_with_block_stops_an_endpoint")
class LivesOnAfterTheBlock(Sound):
    class Endpoint(Desk):
        def __exit__(self, *exc):
            return None


@caught_by("an_unknown_target_option_is_refused")
class TakesAnyOption(Sound):
    def deploy(self, predictor, **options):
        return self.Endpoint(predictor)


@caught_by("threads_may_ask_an_endpoint_at_once")
class KeepsTheBatchOnItself(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            self.rows = data
            time.sleep(0.002)
            return super().predict(self.rows)


@caught_by("two_endpoints_do_not_disturb_each_other")
class OneForAll(Sound):
    latest = None

    class Endpoint(Desk):
        def __init__(self, predictor):
            super().__init__(predictor)
            OneForAll.latest = predictor

        def predict(self, data):
            self.open()
            return OneForAll.latest.predict(data)


@caught_by("an_endpoint_asks_the_predictor_that_it_was_given")
class Remembers(Sound):
    class Endpoint(Desk):
        def __init__(self, predictor):
            super().__init__(predictor)
            self.known = {}

        def predict(self, data):
            self.open()
            if data.fingerprint not in self.known:
                self.known[data.fingerprint] = super().predict(data)
            return self.known[data.fingerprint]


@caught_by("an_endpoint_asks_the_predictor_that_it_was_given")
class AsksTwice(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            super().predict(data)
            return super().predict(data)


@caught_by("a_refusal_of_the_predictor_reaches_whoever_asks")
class AnswersForGovernance(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            try:
                return super().predict(data)
            except Refused:
                classes = self.predictor.signature.classes
                return Predictions(np.array([classes[0]] * len(data)), classes, np.tile([1.0, 0.0], (len(data), 1)))


@caught_by("stopping_an_endpoint_frees_what_it_held")
class LeavesAThread(Sound):
    class Endpoint(Desk):
        def stop(self):
            if self.predictor is not None:
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
            super().stop()


@caught_by("stopping_an_endpoint_frees_what_it_held")
class GoesOnListening(Sound):
    class Endpoint(Desk):
        def __init__(self, predictor):
            super().__init__(predictor)
            LEFT_OPEN.append(socket.create_server(("127.0.0.1", 0)))


@caught_by("no_log_and_no_error_of_a_target_quotes_a_row")
class LogsItsRows(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            logging.getLogger("zoo").info("asked %s", data.table.to_pylist())
            return super().predict(data)


@caught_by("no_log_and_no_error_of_a_target_quotes_a_row")
class QuotesItsRows(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            try:
                return super().predict(data)
            except InvalidInput as error:
                raise InvalidInput(f"{error} in {data.table.slice(0, 1).to_pylist()}") from None


@caught_by("no_log_and_no_error_of_a_target_quotes_a_row")
class PrintsItsRows(Sound):
    class Endpoint(Desk):
        def predict(self, data):
            print(data.table)
            return super().predict(data)


@caught_by("a_deployment_leaves_one_intent_and_one_outcome")
class DeploysAgainInside(Sound):
    """Starts another endpoint through the workspace, behind the back of whoever deployed."""

    def deploy(self, predictor, **options):
        endpoint = super().deploy(predictor, **options)
        if inside_call.get():
            workspace, version = predictor.registered
            workspace.deploy(version, target="in-process")
        return endpoint


@caught_by("every_row_asked_through_an_endpoint_is_journalled")
class WarmsUpWithARow(Sound):
    class Endpoint(Desk):
        def __init__(self, predictor):
            super().__init__(predictor)
            inputs = predictor.signature.inputs
            predictor.predict(Dataset.from_rows({name: [None] for name in inputs.names}, inputs))


@caught_by("planted_personal_data_never_pass_an_endpoint")
class AsksTheModelBesides(Sound):
    """Compares the governed answer with the model's own, past governance."""

    class Endpoint(Desk):
        def predict(self, data):
            found = super().predict(data)
            token = inside_call.set(True)  # so that the model does not warn
            try:
                self.predictor._model.predict(data)
            finally:
                inside_call.reset(token)
            return found


@caught_by("a_refused_deployment_starts_nothing")
class ListensWhenMade(Sound):
    def __init__(self):
        LEFT_OPEN.append(socket.create_server(("127.0.0.1", 0)))

    class Endpoint(Desk):
        def stop(self):
            super().stop()
            while LEFT_OPEN:
                LEFT_OPEN.pop().close()


@caught_by("an_endpoint_explains_inside_governance_or_says_that_it_does_not")
class ExplainsOnItsOwn(Sound):
    class Endpoint(Desk):
        def explain(self, data, *, method=None, **options):
            players = self.open().signature.inputs.names
            return Explanation("zoo", "value", players, np.zeros((len(data), len(players))), np.zeros(len(data)), np.zeros(len(data)))
