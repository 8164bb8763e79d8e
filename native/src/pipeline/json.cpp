#include "json.h"

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace pseg {
namespace {

constexpr size_t MAX_DIGITS = 64;  // of a number, with its sign, point and exponent

[[noreturn]] void broken(const char* what) { throw Fault(PSEG_DAMAGED, "the card is no JSON: %s", what); }

void append(std::string& text, uint32_t point) {
    const auto add = [&](uint32_t byte) { text += char(byte); };
    if (point < 0x80) return add(point);
    if (point < 0x800) return add(0xc0 | point >> 6), add(0x80 | (point & 0x3f));
    if (point < 0x10000) return add(0xe0 | point >> 12), add(0x80 | (point >> 6 & 0x3f)), add(0x80 | (point & 0x3f));
    add(0xf0 | point >> 18), add(0x80 | (point >> 12 & 0x3f)), add(0x80 | (point >> 6 & 0x3f));
    add(0x80 | (point & 0x3f));
}

}  // namespace

char Json::peek() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
    return at_ < end_ ? *at_ : '\0';
}

void Json::expect(char wanted) {
    if (peek() != wanted || at_ == end_) broken("a bracket, quote, colon or comma is missing");
    ++at_;
}

void Json::enter(char opening) {
    expect(opening);
    if (++depth_ > MAX_DEPTH) broken("it is too deep");
}

bool Json::left(char closing) { return peek() == closing && at_ < end_ && ++at_; }

bool Json::more(char closing) {
    if (left(closing)) return false;
    expect(',');
    return true;
}

bool Json::word(const char* text) {
    const size_t length = std::strlen(text);
    peek();
    if (size_t(end_ - at_) < length || std::memcmp(at_, text, length) != 0) return false;
    at_ += length;
    return true;
}

uint32_t Json::hexadecimal() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        if (at_ == end_) broken("a text does not end");
        const char c = *at_;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) broken("an escape of no character");
        value = value << 4 | uint32_t(digit);
    }
    return value;
}

std::string Json::string() {
    expect('"');
    std::string text;
    for (;;) {
        if (at_ == end_ || uint8_t(*at_) < ' ') broken("a text does not end");
        const char c = *at_++;
        if (c == '"') return text;
        if (c != '\\') {
            text += c;
            continue;
        }
        if (at_ == end_) broken("a text does not end");
        constexpr char NAMED[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
        const char name = *at_++;
        if (name != 'u') {
            const char* found = name ? std::strchr(NAMED, name) : nullptr;
            if (!found) broken("an escape of no character");
            text += MEANT[found - NAMED];
            continue;
        }
        uint32_t point = hexadecimal();
        if (point >= 0xd800 && point < 0xdc00 && end_ - at_ >= 6 && at_[0] == '\\' && at_[1] == 'u') {
            at_ += 2;
            const uint32_t low = hexadecimal();
            if (low < 0xdc00 || low > 0xdfff) broken("an escape of no character");
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        }
        if (point >= 0xd800 && point < 0xe000) broken("an escape of no character");
        append(text, point);
    }
}

double Json::number(bool whole) {
    peek();
    char digits[MAX_DIGITS];
    size_t count = 0;
    const auto next = [&] { return at_ < end_ ? *at_ : '\0'; };
    const auto take = [&](char as) {
        if (count + 1 == MAX_DIGITS) broken("a number of too many digits");
        digits[count++] = as, ++at_;
    };
    const auto run = [&] {
        if (next() < '0' || next() > '9') broken("a number is missing");
        while (next() >= '0' && next() <= '9') take(*at_);
    };
    if (next() == '-') take('-');
    const bool zero = next() == '0';
    const size_t first = count;
    run();
    if (zero && count > first + 1) broken("a number that begins with 0");
    if (next() == '.') {
        if (whole) broken("a whole number is missing");
        // strtod reads the point of the program's language.
        take(*std::localeconv()->decimal_point), run();
    }
    if (next() == 'e' || next() == 'E') {
        if (whole) broken("a whole number is missing");
        take('e');
        if (next() == '-' || next() == '+') take(*at_);
        run();
    }
    digits[count] = '\0';
    const double value = std::strtod(digits, nullptr);
    if (!std::isfinite(value)) broken("a number that is too large");
    return value;
}

bool Json::flag() {
    if (word("true")) return true;
    if (!word("false")) broken("true or false is missing");
    return false;
}

bool Json::null() { return word("null"); }

void Json::skip() {
    switch (peek()) {
        case '{':
            return object([&](const std::string&) { skip(); });
        case '[':
            return array([&] { skip(); });
        case '"':
            string();
            return;
        default:
            if (null() || word("true") || word("false")) return;
            number();
    }
}

void Json::end() {
    peek();
    if (at_ != end_) broken("something follows it");
}

}  // namespace pseg
