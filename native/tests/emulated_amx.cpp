// Matrix tiles (AMX) on machines that lack them, for tests. Their instructions end in SIGILL there: this catches it,
// does what the instruction says, and goes on behind it. So what is tested is the machine code that is shipped.
//
// What Intel's manual (Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBUSD, TILERELEASE)
// has as a fault, ends the process here; so does a thread that ends without having released its tiles.
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../src/tiles.h"

namespace {

constexpr int TILES = 8, ROWS = 16, COLUMNS = 64;

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "emulated AMX: %s\n", what);
    std::abort();
}

struct Tile {
    uint32_t rows, columns;  // columns: bytes of a row
    uint8_t bytes[ROWS][COLUMNS];
};

// Tells tests that the kernels for AMX ran, and how much they did.
struct Count {
    std::atomic<uint64_t> products{0};
    ~Count() {
        std::fprintf(stderr, "emulated AMX: %llu products of tiles\n", static_cast<unsigned long long>(products));
    }
} count;

// The tiles of a thread.
class Tiles {
public:
    ~Tiles() { check(!configured_, "a thread ends without having released its tiles"); }

    void configure(const uint8_t* memory) {
        uint8_t bytes[64];
        std::memcpy(bytes, memory, sizeof bytes);
        check(bytes[0] == 1, "#GP: another palette than 1");  // 0 would release
        check(bytes[1] == 0, "a start row: no kernel goes on where an interrupt left it");
        for (int i = 2; i < 16; ++i) check(bytes[i] == 0, "#GP: reserved bytes");
        for (int i = 0; i < 16; ++i) {
            const uint32_t columns = bytes[16 + 2 * i] + 256u * bytes[17 + 2 * i], rows = bytes[48 + i];
            check(i < TILES || (columns == 0 && rows == 0), "#GP: more tiles than there are");
            check(columns <= COLUMNS && rows <= ROWS, "#GP: a tile that is too large");
            check((columns == 0) == (rows == 0), "#GP: a tile without rows or columns");
            if (i < TILES) tiles_[i] = {rows, columns, {}};
        }
        configured_ = true;
    }

    void release() {
        configured_ = false;
        for (Tile& tile : tiles_) tile = {};
    }

    void load(int i, const uint8_t* base, uint64_t stride) {
        Tile& tile = at(i);
        std::memset(tile.bytes, 0, sizeof tile.bytes);
        for (uint32_t row = 0; row < tile.rows; ++row) std::memcpy(tile.bytes[row], base + row * stride, tile.columns);
    }

    void store(int i, uint8_t* base, uint64_t stride) {
        const Tile& tile = at(i);
        for (uint32_t row = 0; row < tile.rows; ++row) std::memcpy(base + row * stride, tile.bytes[row], tile.columns);
    }

    // Each sum += four unsigned bytes of a · four signed bytes of b, for every four. Sanitizers would make it slow.
    __attribute__((no_sanitize("address"), no_sanitize("undefined"))) void multiply_unsigned_signed(int i, int j,
                                                                                                    int k) {
        check(i != j && i != k && j != k, "#UD: the same tile twice");
        Tile &sums = at(i), &a = at(j), &b = at(k);
        check(sums.columns % 4 == 0 && a.columns % 4 == 0 && b.columns % 4 == 0, "#UD: a part of a number");
        check(sums.rows == a.rows && a.columns / 4 == b.rows && sums.columns == b.columns,
              "#UD: tiles that do not fit together");
        for (uint32_t row = 0; row < sums.rows; ++row)
            for (uint32_t column = 0; column < sums.columns / 4; ++column) {
                uint32_t sum;  // modulo 2³²
                std::memcpy(&sum, sums.bytes[row] + 4 * column, 4);
                for (uint32_t quad = 0; quad < b.rows; ++quad)
                    for (uint32_t byte = 0; byte < 4; ++byte)
                        sum +=
                            uint32_t(int32_t(a.bytes[row][4 * quad + byte]) * int8_t(b.bytes[quad][4 * column + byte]));
                std::memcpy(sums.bytes[row] + 4 * column, &sum, 4);
            }
        ++count.products;
    }

private:
    Tile& at(int i) {
        check(configured_, "#UD: tiles are not configured");
        check(i >= 0 && i < TILES && tiles_[i].rows && tiles_[i].columns, "#UD: a tile that the configuration lacks");
        return tiles_[i];
    }

    bool configured_ = false;
    Tile tiles_[TILES] = {};
};

thread_local Tiles tiles;

// An instruction as it lies in memory: VEX prefix of three bytes, opcode, ModRM, SIB and displacement.
class Code {
public:
    explicit Code(greg_t* registers)
        : registers_(registers), at_(reinterpret_cast<const uint8_t*>(registers[REG_RIP])) {
        known = at_[0] == 0xc4 && (at_[1] & 31) == 2 && (at_[2] & 0x84) == 0;
        if (!known) return;
        prefix = at_[2] & 3, opcode = at_[3], modrm = at_[4];
        reg = (modrm >> 3 & 7) + (at_[1] & 0x80 ? 0 : 8), rm = (modrm & 7) + (at_[1] & 0x20 ? 0 : 8),
        third = ~at_[2] >> 3 & 15;
        length = 5;
        if (modrm < 0xc0) find_memory();
    }

    bool known;
    int prefix = 0, opcode = 0, modrm = 0, reg = 0, rm = 0, third = 0, length = 0;
    uint8_t* memory = nullptr;  // without the index, which is a stride
    uint64_t stride = 0;

private:
    uint64_t number_of(int i) const {
        constexpr int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
        return uint64_t(registers_[ORDER[i]]);
    }

    void find_memory() {
        const int mode = modrm >> 6;
        int base = rm;
        if ((modrm & 7) == 4) {
            const int sib = at_[length++], index = (sib >> 3 & 7) + (at_[1] & 0x40 ? 0 : 8);
            base = (sib & 7) + (at_[1] & 0x20 ? 0 : 8);
            if (index != 4) stride = number_of(index) << (sib >> 6);
        }
        const bool far = mode == 0 && (base & 7) == 5;  // no base, or that of the next instruction
        int32_t offset = 0;
        if (mode == 1) offset = int8_t(at_[length++]);
        if (mode == 2 || far) std::memcpy(&offset, at_ + length, 4), length += 4;
        uint64_t begin = far ? 0 : number_of(base);
        if (far && (modrm & 7) == 5) begin = uint64_t(registers_[REG_RIP]) + uint64_t(length);
        memory = reinterpret_cast<uint8_t*>(begin + uint64_t(int64_t(offset)));
    }

    greg_t* registers_;
    const uint8_t* at_;
};

bool done(const Code& code) {
    constexpr int NONE = 0, P66 = 1, F3 = 2, F2 = 3;
    if (!code.known) return false;
    const int what = code.opcode << 8 | code.prefix;
    if (what == (0x49 << 8 | NONE) && code.memory)
        tiles.configure(code.memory);
    else if (what == (0x49 << 8 | NONE) && code.modrm == 0xc0)
        tiles.release();
    else if (what == (0x4b << 8 | F2) && code.memory)
        tiles.load(code.reg, code.memory, code.stride);
    else if (what == (0x4b << 8 | F3) && code.memory)
        tiles.store(code.reg, code.memory, code.stride);
    else if (what == (0x5e << 8 | P66) && !code.memory)
        tiles.multiply_unsigned_signed(code.reg, code.rm, code.third);
    else
        return false;
    return true;
}

void trapped(int, siginfo_t*, void* context) {
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const Code code(registers);
    if (done(code))
        registers[REG_RIP] += code.length;
    else
        signal(SIGILL, SIG_DFL);  // it comes again, and ends the process
}

}  // namespace

bool pseg::tiles_are_granted() {
    struct sigaction action = {};
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, nullptr) == 0;
}
