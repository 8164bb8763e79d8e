# cmake -DCMAKE_TOOLCHAIN_FILE=native/toolchains/wasm32.cmake -DPOCKETSEG_THREADS=OFF, with Debian's packages (`make wasm`).
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_C_COMPILER_TARGET wasm32-wasi)
set(CMAKE_CXX_COMPILER_TARGET wasm32-wasi)
set(CMAKE_CXX_FLAGS_INIT -stdlib=libc++)
# Without a level of its own: the library has -O2, and asked for a level the linking compiler would run whatever
# wasm-opt is about, which makes other instructions of those that it does not know.
set(CMAKE_CXX_FLAGS_RELEASE -DNDEBUG CACHE STRING "")
find_program(WASM_LD wasm-ld-19 REQUIRED)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=${WASM_LD} -Wl,--strip-all,--stack-first,-z,stack-size=262144")
set(CMAKE_EXECUTABLE_SUFFIX_CXX .wasm)
set(CMAKE_EXECUTABLE_SUFFIX_C .wasm)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
