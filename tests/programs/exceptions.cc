// build: -pthread
// Exceptions through frames with destructors and between threads, streams on files, containers.
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Noisy {
    int depth;
    ~Noisy() { std::cout << "left " << depth << "\n"; }
};

static int fall(int depth)
{
    Noisy noisy{depth};
    if (depth == 0)
        throw std::runtime_error("from the bottom");
    return fall(depth - 1) + 1;
}

int main(int argc, char **argv)
{
    try {
        fall(3);
    } catch (const std::exception &error) {
        std::cout << "caught " << error.what() << "\n";
    }
    std::map<std::string, int> numbers;
    for (int i = 0; i < 1000; i++)
        numbers[std::to_string(i)] = i;
    long sum = 0;
    for (const auto &[text, number] : numbers)
        sum += number;
    std::cout << "sum " << sum << std::endl;
    auto throws = std::async(std::launch::async, []() -> int { throw std::logic_error("from a thread"); });
    try {
        throws.get();
    } catch (const std::logic_error &error) {
        std::cout << "caught " << error.what() << "\n";
    }
    {
        std::ofstream file("/tmp/exceptions.txt");
        for (int i = 0; i < 10000; i++)
            file << "line " << i << "\n";
    }
    std::ifstream file("/tmp/exceptions.txt");
    std::string line, last;
    int count = 0;
    while (std::getline(file, line)) {
        count++;
        last = line;
    }
    std::cout << count << " lines, the last: " << last << "\n";
    std::remove("/tmp/exceptions.txt");
    std::cout << std::ifstream("/tmp/exceptions.txt").good() << " " << argv[0] << " " << argc << "\n";
    return 7;
}
