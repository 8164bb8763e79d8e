import pytest

from pocketseg.errors import RecipeError
from pocketseg.quant import Binary, Fixed, Int, PowerOfTwo, ResidualBinary, Scheme, Ternary, check_quant
from pocketseg.quant.scheme import FLOAT, Pair

WEIGHTS, INPUTS = Int(8, axis=0), Int(8, affine=True)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("text", "weights", "inputs"),
    [
        ("w8a8", WEIGHTS, INPUTS),
        ("w4a8", Int(4, axis=0), INPUTS),
        ("w3a5", Int(3, axis=0), Int(5, affine=True)),
        ("w2a8", Ternary(axis=0), INPUTS),
        ("wint2a8", Int(2, axis=0), INPUTS),
        ("w1a1", Binary(scale="mean", axis=0), Binary()),
        ("w1a8", Binary(scale="mean", axis=0), INPUTS),
        ("w4", Int(4, axis=0), None),
        ("w4a32", Int(4, axis=0), None),
        ("w32a8", None, INPUTS),
        ("fixed Q0.4/Q6.0", Fixed(0, 4), Fixed(6, 0)),
        ("fixed Q8.8", Fixed(8, 8), None),
        ("power-of-two Q0.4/Q2.2", PowerOfTwo(0, 4), PowerOfTwo(2, 2)),
        ("residual w3a2", ResidualBinary(3), ResidualBinary(2)),
        ("residual w3", ResidualBinary(3), None),
    ],
)
def test_words_and_what_they_mean(text, weights, inputs):
    assert Scheme(text).parsed(text) == Pair(weights, inputs)
    assert check_quant({"scheme": text}, "q") == []


@pytest.mark.parametrize(
    "text", ["", "w9a8", "w8a9", "8", "w8 a8", "fixed 0.4", "fixed Q0.0/Q1.1", "residual w0a1", "residual w9a1", "w0"]
)
def test_words_that_mean_nothing(text):
    with pytest.raises(RecipeError):
        Scheme.of({"scheme": text})
    (problem,) = check_quant({"scheme": text}, "stages.1.quant")
    assert problem.where == "stages.1.quant.scheme"


def test_rules_and_starts_reach_the_specs():
    scheme = Scheme.of({"scheme": "w4a4", "rule": "percentile", "weight_rule": "learned"})
    assert scheme.parsed("w4a4") == Pair(Int(4, axis=0, rule="learned"), Int(4, affine=True, rule="percentile"))
    assert Scheme.of({"scheme": "residual w2", "start": "source"}).parsed("residual w2").weights.start == "source"


def test_first_and_last_have_eight_bits_unless_something_is_kept():
    low = Scheme("w2a4")
    for word in ("first", "last"):
        assert low.pair(["x", word]) == Pair(WEIGHTS, INPUTS)
        assert Scheme("w2").pair(["x", word]) == Pair(WEIGHTS, None)
        assert Scheme("w2a4", keep=()).pair(["x", word]) == low.pair(["x"])
        assert Scheme("w2a4", keep=(word,)).pair(["x", word]) == FLOAT
    assert low.pair(["x"]) == Pair(Ternary(axis=0), Int(4, affine=True))
    assert Scheme("w8a8").pair(["x", "first"]) == Pair(WEIGHTS, INPUTS)


def test_layers_by_name_and_kind():
    scheme = Scheme(
        "w4a8", keep=("depthwise",), layers={"encoder.*": "w8a8", "encoder.1.0": "float", "pointwise": "w2a8"}
    )
    assert scheme.pair(["decoder.0.0", "depthwise"]) == FLOAT
    assert scheme.pair(["encoder.0.0", "depthwise"]) == Pair(WEIGHTS, INPUTS)
    assert scheme.pair(["encoder.1.0", "conv"]) == FLOAT
    assert scheme.pair(["encoder.2.0", "pointwise"]) == Pair(Ternary(axis=0), INPUTS)  # the last that fits
    assert scheme.pair(["decoder.2.0", "conv"]) == Pair(Int(4, axis=0), INPUTS)


@pytest.mark.parametrize("text", ["w1a1", "residual w3a3"])
def test_what_stays_real_where_activations_are_signs(text):
    published, bits = Scheme(text, keep=()), Scheme(text, keep=(), binarize_depthwise=True)
    assert published.pair(["x", "first", "conv"]).inputs is None and published.pair(["x", "first", "conv"]).weights
    between = ["x", "pointwise", "after depthwise"]
    assert published.pair(between).inputs is None and published.pair(between).weights
    assert bits.pair(between).inputs == bits.pair(["x", "conv"]).inputs is not None
    assert Scheme("w8a8").pair(between) == Pair(WEIGHTS, INPUTS)


def test_faults_name_their_key():
    problems = check_quant({"scheme": "w4a8", "layers": {"first": "w99", "last": "float"}}, "here")
    assert [problem.where for problem in problems] == ["here.scheme"] and "'w99'" in problems[0].what
