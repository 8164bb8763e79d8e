// The pipeline in a model's card. Keys, defaults and bounds are those of src/pocketseg/pipeline: a key that is not
// known here is refused, never passed over.
#include <cmath>
#include <utility>

#include "../fault.h"
#include "json.h"
#include "pipeline.h"

namespace pseg {
namespace {

// Those of src/pocketseg/pipeline/fields.py.
constexpr uint32_t MAX_PIPELINE_SIDE = 4096, MAX_CLASSES = 255, MIN_TILE = 8;
constexpr double LARGEST = 1e18, MAX_COUNT = 2147483648.0;

[[noreturn]] void invalid(const char* key, const char* what) {
    throw Fault(PSEG_DAMAGED, "the card's pipeline is not valid: %s %s", key, what);
}

// Of a text of the card, only what can be read stands in messages.
[[noreturn]] void unsupported(const char* within, std::string key) {
    for (char& c : key) c = c >= ' ' && c <= '~' ? c : '?';
    throw Fault(PSEG_UNSUPPORTED, "the card's pipeline asks for %s%.60s, which the native pipeline does not do", within,
                key.c_str());
}

class CardReader {
public:
    CardReader(const char* text, size_t length) : in_(text, length) {}

    std::optional<Pipeline> card() {
        std::optional<Pipeline> found;
        in_.object([&](const std::string& key) {
            if (key != "pipeline") return in_.skip();
            found = pipeline();
        });
        in_.end();
        return found;
    }

    Pipeline alone() {
        Pipeline found = pipeline();
        in_.end();
        return found;
    }

private:
    double number(const char* key, double least, double most) {
        const double value = in_.number();
        if (!(value >= least && value <= most)) invalid(key, "is out of bounds");
        return value;
    }

    uint32_t whole(const char* key, double least, double most) {
        const double value = in_.number(true);
        if (!(value >= least && value <= most)) invalid(key, "is out of bounds");
        return uint32_t(value);
    }

    template <class Value>
    void pair(const char* key, Value value) {
        int count = 0;
        in_.array([&] {
            if (count == 2) invalid(key, "has more than two numbers");
            value(count++);
        });
        if (count != 2) invalid(key, "has less than two numbers");
    }

    // The place of a text among those that are known.
    template <size_t N>
    size_t choice(const char* key, const char* const (&names)[N]) {
        const std::string found = in_.string();
        for (size_t i = 0; i < N; ++i)
            if (found == names[i]) return i;
        unsupported(key, ' ' + found);
    }

    std::vector<float> numbers(const char* key, double least) {
        std::vector<float> found;
        in_.array([&] {
            if (found.size() == MAX_IMAGE_CHANNELS) invalid(key, "has too many numbers");
            found.push_back(float(number(key, least, LARGEST)));
        });
        return found;
    }

    // Of a key that is there twice the last counts, as in Python: each of these starts from the defaults.
    void normalization(Pipeline& to) {
        to.normalize = Normalize::unit_range, to.clip = 0, to.mean = {}, to.std = {};
        in_.object([&](const std::string& key) {
            if (key == "kind")
                to.normalize =
                    Normalize(choice("normalization.kind", {"unit-range", "min-max", "z-score", "train-mean-std"}));
            else if (key == "clip")
                to.clip = in_.null() ? 0 : number("normalization.clip", 1 / LARGEST, LARGEST);
            else if (key == "mean")
                to.mean = numbers("normalization.mean", -LARGEST);
            else if (key == "std")
                to.std = numbers("normalization.std", 1 / LARGEST);
            else
                unsupported("normalization.", key);
        });
    }

    void postprocess(Pipeline& to) {
        to.threshold = 0.5f, to.min_peak = 0, to.min_pixels = 0, to.fill_holes = to.largest = false;
        in_.object([&](const std::string& key) {
            if (key == "threshold")
                to.threshold = float(number("postprocess.threshold", 0, 1));
            else if (key == "fill_holes")
                to.fill_holes = in_.flag();
            else if (key == "min_peak")
                to.min_peak = float(number("postprocess.min_peak", 0, 1));
            else if (key == "min_pixels")
                to.min_pixels = whole("postprocess.min_pixels", 0, MAX_COUNT);
            else if (key == "keep")
                to.largest = choice("postprocess.keep", {"all", "largest"}) == 1;
            else
                unsupported("postprocess.", key);
        });
    }

    void trained_on(Pipeline& to) {
        to.numbers = Numbers::unknown;
        if (in_.null()) return;
        in_.object([&](const std::string& key) {
            if (key == "numbers")
                to.numbers = in_.null() ? Numbers::unknown
                                        : Numbers(1 + choice("trained_on.numbers", {"uint8", "uint16", "float"}));
            else if (key == "low" || key == "high" || key == "narrowest" || key == "widest" || key == "colors")
                in_.skip();  // what images are held against, and nothing is made of
            else
                unsupported("trained_on.", key);
        });
    }

    void classes(Pipeline& to) {
        to.classes.clear();
        in_.array([&] {
            if (to.classes.size() == MAX_CLASSES) invalid("classes", "are too many");
            to.classes.push_back(in_.string());
            for (size_t i = 0; i + 1 < to.classes.size(); ++i)
                if (to.classes[i] == to.classes.back()) invalid("classes", "hold one twice");
        });
        if (to.classes.empty()) invalid("classes", "are missing");
    }

    void tta(Pipeline& to) {
        to.mirrors.clear();
        in_.array([&] {
            const bool vertical = choice("tta", {"horizontal", "vertical"}) == 1;
            if (to.mirrors.size() == 2 || (to.mirrors.size() == 1 && to.mirrors[0].vertical == vertical))
                invalid("tta", "holds a direction twice");
            to.mirrors.push_back({!vertical, vertical});
        });
        if (to.mirrors.size() == 2) to.mirrors.push_back({true, true});
    }

    Pipeline pipeline() {
        Pipeline to;
        to.classes = {"foreground"};
        in_.object([&](const std::string& key) {
            if (key == "size")
                pair("size", [&](int i) { (i ? to.width : to.height) = whole("size", 1, MAX_PIPELINE_SIDE); });
            else if (key == "channels")
                to.channels = whole("channels", 1, MAX_IMAGE_CHANNELS);
            else if (key == "classes")
                classes(to);
            else if (key == "fit")
                to.fit = Fit(choice("fit", {"resize", "letterbox", "pad", "crop", "tile"}));
            else if (key == "multiple")
                to.multiple = whole("multiple", 1, MAX_PIPELINE_SIDE);
            else if (key == "intensity_range")
                optional_pair("intensity_range", to.has_range, to.range, -LARGEST);
            else if (key == "spacing_mm")
                optional_pair("spacing_mm", to.has_spacing, to.spacing, 1 / LARGEST);
            else if (key == "normalization")
                normalization(to);
            else if (key == "postprocess")
                postprocess(to);
            else if (key == "trained_on")
                trained_on(to);
            else if (key == "tta")
                tta(to);
            else if (key == "reading")
                in_.skip();  // how volumes are cut into images
            else if (key != "paint_out_calipers" || in_.flag())
                unsupported("", key);
        });
        if (!to.height) invalid("size", "is missing");
        if (to.has_range && to.range[0] >= to.range[1]) invalid("intensity_range", "does not rise");
        if (to.fit == Fit::tile && (to.height < MIN_TILE || to.width < MIN_TILE))
            invalid("size", "is less than a tile");
        if (to.normalize == Normalize::train_mean_std &&
            (to.mean.size() != to.channels || to.std.size() != to.channels))
            invalid("normalization", "is of other channels");
        return to;
    }

    void optional_pair(const char* key, bool& has, double* values, double least) {
        has = !in_.null();
        if (has) pair(key, [&](int i) { values[i] = number(key, least, LARGEST); });
    }

    Json in_;
};

Pipeline of_net(Pipeline pipeline, const Program& program) {
    const size_t logits = pipeline.classes.size() == 1 ? 1 : pipeline.classes.size() + 1;
    if (pipeline.channels != program.in_channels || logits != program.out_channels ||
        pipeline.net_height() % program.multiple || pipeline.net_width() % program.multiple)
        throw Fault(PSEG_DAMAGED, "the net and the card's pipeline do not fit each other");
    return pipeline;
}

}  // namespace

std::optional<Pipeline> read_card(const char* text, size_t length, const Program& program) {
    std::optional<Pipeline> found = CardReader(text, length).card();
    if (found) found = of_net(std::move(*found), program);
    return found;
}

Pipeline read_pipeline(const char* text, size_t length, const Program& program) {
    return of_net(CardReader(text, length).alone(), program);
}

}  // namespace pseg
