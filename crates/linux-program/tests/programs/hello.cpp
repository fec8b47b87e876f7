// Exceptions, whose tables are found through the program headers.
#include <cstdio>
#include <stdexcept>
#include <string>

static std::string fails(const std::string &text) {
    throw std::runtime_error("caught " + text);
}

int main(int, char **argv) {
    try {
        fails(argv[1]);
    } catch (const std::exception &error) {
        std::printf("c++ %s\n", error.what());
    }
}
