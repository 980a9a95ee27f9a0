// lorarar-run: merges and pictures without Python; prints one JSON object (docs/native.md).
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <set>

#include "commands.hpp"
#include "engine.hpp"
#include "files.hpp"
#include "refusal.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace lorarar {

namespace {

constexpr int RUNNER = 1;  // the format of what is printed
constexpr int MOST_THREADS = 1024, MOST_ROUNDS = 1'000'000;

struct Command {
  const char* name;
  const char* usage;
  size_t fewest, most;  // places
  std::set<std::string> needed, allowed;
  Report (*run)(const Arguments&);
};

const std::vector<Command> COMMANDS = {
    {"graph",
     "PROGRAM --method NAME --given IN.safetensors --expect OUT.safetensors "
     "[--tolerance 1e-4]",
     1,
     1,
     {"method", "given", "expect"},
     {"tolerance"},
     run_graph},
    {"merge",
     "MERGER CONTENT STYLE [-o OUT.safetensors] [--only coefficients|merge]",
     3,
     3,
     {},
     {"o", "only"},
     run_merge},
    {"step", "FOLDER --given GIVEN.safetensors [CONTENT STYLE]", 1, 3, {"given"}, {}, run_step},
    {"picture",
     "FOLDER --given GIVEN.safetensors [CONTENT STYLE] -o OUT.png "
     "[--latents OUT.safetensors] [--steps 20] [--guidance 5] [--sampler euler]",
     1,
     3,
     {"given", "o"},
     {"latents", "steps", "guidance", "sampler"},
     run_picture},
};

std::string usage() {
  std::string text = "usage:";
  for (const Command& command : COMMANDS) {
    text += std::string(" lorarar-run ") + command.name + " " + command.usage + " |";
  }
  return text + " any: [--threads N] [--rounds N] [--force]";
}

int whole(const std::string& option, const std::string& text, int most) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 1 || value > most) {
    throw Refusal("--" + option + " " + text + ": give a number from 1 to " + std::to_string(most));
  }
  return static_cast<int>(value);
}

Arguments parse(int count, char** words, const Command& command) {
  Arguments arguments;
  for (int i = 2; i < count; ++i) {
    const std::string word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      arguments.places.push_back(word);
      continue;
    }
    const std::string option = word.substr(word.compare(0, 2, "--") == 0 ? 2 : 1);
    if (option == "force") {
      arguments.force = true;
      continue;
    }
    const bool known = command.needed.count(option) || command.allowed.count(option) ||
                       option == "threads" || option == "rounds";
    if (!known || i + 1 == count) throw Refusal(word + ": unknown or without a value; " + usage());
    const std::string value = words[++i];
    if (option == "threads") arguments.threads = whole(option, value, MOST_THREADS);
    else if (option == "rounds") arguments.rounds = whole(option, value, MOST_ROUNDS);
    else arguments.options[option] = value;
  }
  for (const std::string& option : command.needed) arguments.get(option);
  if (arguments.places.size() < command.fewest || arguments.places.size() > command.most) {
    throw Refusal(std::string(command.name) + ": " + std::to_string(arguments.places.size()) +
                  " files given; " + usage());
  }
  for (const std::string output : {"o", "latents"}) {
    if (arguments.has(output)) refuse_existing(arguments.get(output), arguments.force);
  }
  return arguments;
}

Json describe(const Command& command, const Arguments& arguments, const Report& report) {
  Json json = {{"runner", RUNNER},
               {"engine", ENGINE},
               {"command", command.name},
               {"threads", arguments.threads},
               {"cpu", cpu()},
               {"load_ms", report.load_ms},
               {"peak_megabytes", peak_megabytes()},
               {"rows", Json::array()}};
  for (const Row& row : report.rows) json["rows"].push_back(row.json());
  if (!report.sha256.empty()) json["sha256"] = report.sha256;
  if (report.error) json["error"] = *report.error;
  return json;
}

int run(int count, char** words) {
  const std::string name = count > 1 ? words[1] : "";
  for (const Command& command : COMMANDS) {
    if (command.name != name) continue;
    const Arguments arguments = parse(count, words, command);
    const Report report = command.run(arguments);
    const auto replace = Json::error_handler_t::replace;
    std::printf("%s\n", describe(command, arguments, report).dump(-1, ' ', false, replace).c_str());
    return report.failed ? 1 : 0;
  }
  throw Refusal(name + (name.empty() ? "no command; " : ": unknown; ") + usage());
}

}  // namespace

const std::string& Arguments::get(const std::string& option) const {
  const auto found = options.find(option);
  if (found == options.end()) throw Refusal("--" + option + ": missing; " + usage());
  return found->second;
}

double Arguments::number(const std::string& option, double otherwise) const {
  if (!has(option)) return otherwise;
  const std::string& text = get(option);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value)) {
    throw Refusal("--" + option + " " + text + ": give a finite number");
  }
  return value;
}

}  // namespace lorarar

int main(int count, char** words) {
#if defined(__GLIBC__)
  // Memory that is freed is kept: what a round allocates must not be faulted in again each time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  try {
    return lorarar::run(count, words);
  } catch (const lorarar::Refusal& refusal) {
    std::fprintf(stderr, "error: %s\n", lorarar::one_line(refusal.what()).c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: not enough memory; use smaller files\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", lorarar::one_line(error.what()).c_str());
  }
  return 2;
}
