// The commands of lorarar-run; main.cpp has their table.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "measure.hpp"

namespace lorarar {

struct Arguments {
  std::vector<std::string> places;             // what is no option, in order
  std::map<std::string, std::string> options;  // without dashes: "given", "o"
  int threads = 1;
  int rounds = 1;
  bool force = false;  // files that exist may be replaced

  bool has(const std::string& option) const { return options.count(option) > 0; }
  // Throws Refusal if it is missing.
  const std::string& get(const std::string& option) const;
  // Throws Refusal unless it is a number.
  double number(const std::string& option, double otherwise) const;
};

struct Report {
  double load_ms = 0;
  std::vector<Row> rows;
  std::string sha256;           // of what was written; empty if nothing was
  std::optional<double> error;  // graph: the largest relative one
  bool failed = false;          // exit code 1
};

Report run_graph(const Arguments& arguments);
Report run_merge(const Arguments& arguments);
Report run_step(const Arguments& arguments);
Report run_picture(const Arguments& arguments);

}  // namespace lorarar
