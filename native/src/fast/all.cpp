// Every fast kernel of one instruction set; they share much.
#include "bits.cpp"
#include "codes.cpp"
#include "floats.cpp"
#include "pool_resize.cpp"
