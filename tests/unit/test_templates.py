"""Templates of requests and responses say what parser and serializer of protobuf say, whatever bytes they are given."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire.v1.frames import message_in
from gradwire_server import codec
from gradwire_server.engine import Fit, Limits, unhurried
from gradwire_server.errors import Refusal
from gradwire_server.service.requests.cache import ProgramCache
from gradwire_server.service.requests.logic import GradientLogic
from gradwire_server.service.requests.templates import ALIKE, MAX_BYTES, MAX_KINDS, Templates
from gradwire_server.service.rpc.frames import response_frame
from tests.losses import Case, hinge, perceptron

LIMITS = Limits()
F32 = tensor_pb2.DTYPE_FLOAT32
DTYPES = {"d": tensor_pb2.DTYPE_FLOAT64, "f": F32, "l": tensor_pb2.DTYPE_INT64}


def tensor(array: Any) -> tensor_pb2.Tensor:
    array = np.asarray(array)
    return tensor_pb2.Tensor(dtype=DTYPES[array.dtype.char], shape=array.shape, raw=array.tobytes())


def request(case: Case, logic: GradientLogic, dtype: str = "d", **options: Any) -> pb.ComputeGradientsRequest:
    graph = gw.graph(case.loss)
    graph_id = logic.register_graph(pb.RegisterGraphRequest(graph=graph)).graph_id
    arrays = {name: np.asarray(a).astype(dtype if a.dtype.kind == "f" else "l") for name, a in case.arrays.items()}
    tensors = {name: tensor(array) for name, array in arrays.items()}
    return pb.ComputeGradientsRequest(graph_id=graph_id, dtype=DTYPES[dtype], tensors=tensors, **options)


def learnt(logic: GradientLogic, raw: bytes) -> Templates:
    templates = Templates(logic)
    for _ in range(2):
        assert templates.find(raw, 0) is None
        templates.learn(raw, 0, parsed(raw))
    return templates


def parsed(raw: bytes) -> pb.ComputeGradientsRequest:
    return codec.parse(pb.ComputeGradientsRequest, raw, LIMITS)


def decoded(raw: bytes) -> Any:
    """What the ordinary course makes of a message; nothing of one that is wrong."""
    try:
        return codec.decode_query(parsed(raw), LIMITS, unhurried)
    except Refusal:
        return None


def same(query: Any, other: Any) -> bool:
    return (
        query[1:] == other[1:]
        and query.arrays.keys() == other.arrays.keys()
        and all(
            array.dtype == other.arrays[name].dtype
            and array.shape == other.arrays[name].shape
            and array.tobytes() == other.arrays[name].tobytes()
            for name, array in query.arrays.items()
        )
    )


@pytest.mark.parametrize("inline", [False, True], ids=["by id", "inline"])
def test_whatever_byte_is_another_a_template_says_what_the_parser_says_or_nothing(inline: bool) -> None:
    logic, case = GradientLogic(), hinge()
    message = request(case, logic, reduction=pb.REDUCTION_SUM, reject_non_finite=True)
    if inline:
        message.graph.CopyFrom(gw.graph(case.loss))
    raw = message.SerializeToString()
    templates = learnt(logic, raw)
    known = 0
    for place in range(len(raw)):
        for flipped in (1, 2, 128, 255):
            other = bytearray(raw)
            other[place] ^= flipped
            found = templates.find(bytes(other), 0)
            if found is not None:
                known += 1
                assert same(found[0].query(bytes(other), 0), decoded(bytes(other)))
    assert known == 4 * sum(array.nbytes for array in case.arrays.values())


def test_what_is_longer_or_shorter_or_of_another_type_has_no_template() -> None:
    logic, case = GradientLogic(), hinge()
    message = request(case, logic)
    raw = message.SerializeToString()
    templates = learnt(logic, raw)
    assert templates.find(raw, 0) is not None
    for other in (raw[:-1], raw + b"\0", raw[1:], b"", raw + raw, request(case, logic, "f").SerializeToString()):
        assert templates.find(other, 0) is None
    # As long, but with one example less and one more feature.
    message.tensors["phi"].shape[:] = [3, 5]
    assert len(message.SerializeToString()) == len(raw)
    assert templates.find(message.SerializeToString(), 0) is None


def unusual() -> Iterator[tuple[str, bytes]]:
    """Messages that the parser takes, in which the elements of a tensor are not where they seem to be."""
    case = hinge()
    logic = GradientLogic()
    message = request(case, logic)
    raw, w = message.SerializeToString(), message.tensors["w"]
    twice = pb.ComputeGradientsRequest(tensors={"w": w}).SerializeToString()
    yield "a tensor twice", raw + twice
    entry = b"\x0a\x01w" + b"\x12" + bytes([w.ByteSize()]) + w.SerializeToString()
    more = b"\x12\x02\x08\x02"
    yield "a tensor in two parts", raw.replace(twice, b"") + b"\x22" + bytes([len(entry + more)]) + entry + more
    two = w.SerializeToString() + tensor_pb2.Tensor(raw=w.raw).SerializeToString()
    entry = b"\x0a\x01w" + b"\x12" + bytes([len(two)]) + two
    yield "elements twice", raw.replace(twice, b"") + b"\x22" + bytes([len(entry)]) + entry
    message.tensors["w"].CopyFrom(tensor_pb2.Tensor(shape=[3], values=case.arrays["w"]))
    yield "elements as numbers", message.SerializeToString()


@pytest.mark.parametrize(("raw"), [pytest.param(raw, id=name) for name, raw in unusual()])
def test_a_message_that_is_written_in_an_unusual_way_gets_no_template(raw: bytes) -> None:
    logic = GradientLogic()
    request(hinge(), logic)
    assert decoded(raw) is not None
    templates = Templates(logic)
    for _ in range(5):
        templates.learn(raw, 0, parsed(raw))
        assert templates.find(raw, 0) is None


def test_a_template_goes_with_its_graph_and_with_the_numbers_of_its_nodes() -> None:
    logic = GradientLogic()
    a, b = gw.parameter("a"), gw.parameter("b")
    raw = request(Case(a * b, {"a": np.array(1.0), "b": np.array(2.0)}), logic, outputs=[0]).SerializeToString()
    templates = learnt(logic, raw)
    assert templates.find(raw, 0) is not None
    # The same graph, numbered in another way: what node 0 is nobody can tell any more.
    nodes = [graph_pb2.Node(name=name, parameter=graph_pb2.Parameter()) for name in "ba"]
    other = graph_pb2.Graph(nodes=[*nodes, graph_pb2.Node(mul=graph_pb2.Mul(operands=[1, 0]))], loss=2)
    assert logic.register_graph(pb.RegisterGraphRequest(graph=other)).graph_id in raw.decode("latin1")
    assert templates.find(raw, 0) is None
    logic.cache = ProgramCache(1 << 20)
    assert templates.find(raw, 0) is None


def test_what_is_known_of_requests_is_bounded() -> None:
    logic, case = GradientLogic(), hinge()
    message = request(case, logic)
    templates = Templates(logic)
    for number in range(MAX_KINDS + 10):
        message.graph_id = f"{number:064x}"
        templates.learn(message.SerializeToString(), 0, message)
        assert len(templates._known) <= MAX_KINDS  # noqa: SLF001  (nobody else counts it)
    kept = []
    for number in range(2 * MAX_BYTES // 160_000):
        large = gw.graph(case.loss * gw.sum(gw.constant(np.arange(20_000.0) + number)))
        logic.compiled(large, unhurried)
        tensors = {name: tensor(array) for name, array in case.arrays.items()}
        raw = pb.ComputeGradientsRequest(graph=large, tensors=tensors).SerializeToString()
        for _ in range(2):
            if templates.find(raw, 0) is None:
                templates.learn(raw, 0, parsed(raw))
        kept.append(raw)
        assert templates._nbytes <= MAX_BYTES  # noqa: SLF001  (as above)
        assert all(known is None or len(known) <= ALIKE for known in templates._known.values())  # noqa: SLF001
    assert sum(templates.find(raw, 0) is not None for raw in kept) == ALIKE


def forgetful() -> GradientLogic:
    """A logic that keeps few graphs."""
    logic = GradientLogic()
    logic.cache = ProgramCache(200_000)
    return logic


def test_templates_of_graphs_that_are_gone_make_room() -> None:
    logic = forgetful()
    raw = request(hinge(), logic).SerializeToString()
    templates = learnt(logic, raw)
    assert templates.find(raw, 0) is not None
    for number in range(40):
        request(loss([f"name{number}"]), logic)
    assert templates.find(raw, 0) is None
    assert templates._nbytes == 0  # noqa: SLF001  (nobody else counts it)


def test_a_response_has_the_shapes_that_outputs_have_now() -> None:
    logic = forgetful()
    p, q = gw.parameter("p", shape=(2, 3)), gw.parameter("q", shape=(3, 2))
    arrays = {"p": np.arange(6.0).reshape(2, 3), "q": np.ones((3, 2))}
    raw = request(Case(gw.sum(p) * gw.sum(q), arrays), logic, outputs=[0]).SerializeToString()
    templates = learnt(logic, raw)
    found = templates.find(raw, 0)
    assert found is not None
    template, program = found
    query = template.query(raw, 0)
    template.response(*logic.bound(program, query).evaluate(unhurried))
    # The graph of this id that comes when this one is forgotten has its nodes in another order.
    for number in range(40):
        request(loss([f"name{number}"]), logic)
    nodes = [
        graph_pb2.Node(name="q", parameter=graph_pb2.Parameter(shape=[3, 2])),
        graph_pb2.Node(name="p", parameter=graph_pb2.Parameter(shape=[2, 3])),
        graph_pb2.Node(sum=graph_pb2.Sum(operands=[1])),
        graph_pb2.Node(sum=graph_pb2.Sum(operands=[0])),
        graph_pb2.Node(mul=graph_pb2.Mul(operands=[2, 3])),
    ]
    other = graph_pb2.Graph(nodes=nodes, loss=4)
    assert logic.register_graph(pb.RegisterGraphRequest(graph=other)).graph_id in raw.decode("latin1")
    found = templates.find(raw, 0)
    assert found is not None
    evaluation, seconds = logic.bound(found[1], query).evaluate(unhurried)
    expected, _ = codec.encode_evaluation(evaluation, seconds, unhurried)
    assert list(expected.outputs[0].shape) == [3, 2]
    assert template.response(evaluation, seconds) == expected.SerializeToString()


def test_a_fit_holds_for_its_program_alone_and_while_that_knows_the_kind() -> None:
    logic = GradientLogic()
    raw = request(hinge(), logic).SerializeToString()
    found = learnt(logic, raw).find(raw, 0)
    assert found is not None
    template, program = found
    query = template.query(raw, 0)
    fit = Fit(logic.bound(program, query).job)
    job = fit.job(program, query)
    assert job is not None
    assert job == logic.bound(program, query).job
    del job
    same_graph = GradientLogic().compiled(gw.graph(hinge().loss), unhurried)
    assert same_graph.graph_id == program.graph_id
    assert fit.job(same_graph, query) is None
    program.known.clear()
    program.bounds.clear()
    assert fit.job(program, query) is None


def loss(names: list[str]) -> Case:
    sources = [gw.parameter(name, shape=(position % 3,)) for position, name in enumerate(names)]
    arrays = {source.name: np.linspace(0.1, 1.0, position % 3) for position, source in enumerate(sources)}
    total: gw.Expression = gw.parameter("bias")
    for source in sources:
        total = total + gw.sum(gw.exp(source))
    return Case(total, {**arrays, "bias": np.array(0.5)})


@pytest.mark.parametrize("case", [hinge(), *(loss([f"{n:0{length}}" for n in range(24)]) for length in (3, 200))])
def test_a_template_takes_no_more_memory_than_it_says(case: Case) -> None:
    logic = GradientLogic()
    raw = request(case, logic).SerializeToString()
    found = learnt(logic, raw).find(raw, 0)
    assert found is not None
    evaluation, seconds = logic.bound(found[1], found[0].query(raw, 0)).evaluate(unhurried)
    kept = []
    tracemalloc.start()
    for _ in range(20):
        made = logic.template(raw, parsed(raw))
        assert made is not None
        made[0].response(evaluation, seconds)
        kept.append(made)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < sum(template.nbytes for template, _ in kept)


@pytest.mark.parametrize("seed", range(20))
def test_a_response_of_a_template_has_the_bytes_that_protobuf_writes(seed: int) -> None:
    logic, chance = GradientLogic(), random.Random(seed)  # noqa: S311  (no secret)
    names = [f"{chance.getrandbits(40):x}"[: chance.randint(1, 10)] or "x" for _ in range(chance.randint(1, 20))]
    case = chance.choice([loss(sorted(set(names))), hinge(), perceptron()])
    outputs = chance.sample(range(len(gw.graph(case.loss).nodes)), 2)
    reduction = chance.choice([pb.REDUCTION_MEAN, pb.REDUCTION_SUM, pb.REDUCTION_NONE])
    message = request(case, logic, chance.choice("df"), reduction=reduction, outputs=outputs)
    raw = message.SerializeToString()
    found = learnt(logic, raw).find(raw, 0)
    assert found is not None
    template, program = found
    evaluation, _ = logic.bound(program, template.query(raw, 0)).evaluate(unhurried)
    for seconds in (0.0, 1e-9, 1.28e-7, 2.5e-5, 0.5, 1.0, 3.25, 200.0):
        expected, _ = codec.encode_evaluation(evaluation, seconds, unhurried)
        assert template.response(evaluation, seconds) == expected.SerializeToString()
    assert template._response is not None  # noqa: SLF001  (or else nothing was compared)


@pytest.mark.parametrize("tag", [0, 1, 127, 128, 300, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("nbytes", [0, 1, 120, 122, 123, 124, 125, 126, 127, 128, 200, 16379, 16384, 1 << 17])
def test_frames_are_read_and_written_as_protobuf_does(tag: int, nbytes: int) -> None:
    message = pb.ComputeGradientsRequest(graph_id="g" * nbytes)
    raw = message.SerializeToString()
    frame = pb.StreamGradientsRequest(tag=tag, head=pb.StreamRequestHead(request=message)).SerializeToString()
    found = message_in(frame)
    # A tag of ten bytes, and a request that is empty, may be left to the parser.
    assert found == (tag, len(frame) - len(raw)) or (found is None and tag >= 1 << 63)
    response = pb.ComputeGradientsResponse(loss=tensor_pb2.Tensor(raw=bytes(nbytes)))
    expected = pb.StreamGradientsResponse(tag=tag, head=pb.StreamResponseHead(response=response))
    assert response_frame(tag, response.SerializeToString()) == expected.SerializeToString()


def test_a_frame_with_more_in_it_holds_no_request_that_fills_it() -> None:
    message = pb.ComputeGradientsRequest(graph_id="g")
    head = pb.StreamRequestHead(request=message, framed=[pb.FramedTensor(name="w")])
    assert message_in(pb.StreamGradientsRequest(tag=3, head=head).SerializeToString()) is None
    assert message_in(pb.StreamGradientsRequest(tag=3, chunk=b"\x0a\x00").SerializeToString()) is None


@pytest.mark.parametrize("seed", range(300))
def test_bytes_by_chance_are_read_as_the_parser_reads_them(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  (no secret)
    whole = pb.StreamGradientsRequest(
        tag=chance.getrandbits(chance.randint(0, 63)),
        head=pb.StreamRequestHead(request=pb.ComputeGradientsRequest(graph_id="g" * chance.randint(0, 200))),
    ).SerializeToString()
    frame = bytearray(whole)
    frame[chance.randrange(min(20, len(frame)))] = chance.getrandbits(8)
    found = message_in(bytes(frame))
    if found is not None:
        tag, start = found
        try:
            same_frame = pb.StreamGradientsRequest.FromString(bytes(frame))
            expected = pb.ComputeGradientsRequest.FromString(bytes(frame[start:]))
        except DecodeError:
            return
        assert (same_frame.tag, same_frame.head.request) == (tag, expected)
        assert not same_frame.head.framed
