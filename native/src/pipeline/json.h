// JSON (RFC 8259) of a model's card: read from front to back, nothing is kept, nothing is deeper than MAX_DEPTH.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../fault.h"

namespace pseg {

class Json {
public:
    Json(const char* text, size_t length) : at_(text), end_(text + length) {}

    // Calls member(key) for each member of an object, or element() for each of an array; they read the value.
    template <class Member>
    void object(Member member) {
        enter('{');
        if (!left('}')) do {
                const std::string key = string();
                expect(':');
                member(key);
            } while (more('}'));
        --depth_;
    }
    template <class Element>
    void array(Element element) {
        enter('[');
        if (!left(']')) do
                element();
            while (more(']'));
        --depth_;
    }
    std::string string();
    double number(bool whole = false);
    bool flag();
    // Whether null comes next; then it is read.
    bool null();
    void skip();
    // Throws where something follows.
    void end();

private:
    static constexpr int MAX_DEPTH = 32;

    char peek();  // the next byte that is no space, 0 at the end
    void expect(char wanted);
    void enter(char opening);
    bool left(char closing);
    bool more(char closing);
    bool word(const char* text);
    uint32_t hexadecimal();

    const char *at_, *end_;
    int depth_ = 0;
};

}  // namespace pseg
