#include "json.hpp"

#include <set>
#include <vector>

#include "refusal.hpp"

namespace lorarar {

namespace {

constexpr int DEEPEST = 100;

// Called by the parser at each event: refuses what it would take.
class Strict {
 public:
  bool operator()(int depth, Json::parse_event_t event, const Json& value) {
    using Event = Json::parse_event_t;
    if (depth > DEEPEST) throw Refusal("nested too deep");
    if (event == Event::object_start) {
      if (keys_.size() <= static_cast<size_t>(depth)) keys_.resize(depth + 1);
      keys_[depth].clear();
    } else if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_[depth - 1].insert(key).second) throw Refusal("key '" + key + "' occurs twice");
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // seen so far, of the open object at each depth
};

}  // namespace

std::string one_line(const std::string& text) {
  std::string line;
  for (const char c : text) {
    const bool is_space = static_cast<unsigned char>(c) <= ' ' || c == 127;
    if (!is_space) line += c;
    else if (!line.empty() && line.back() != ' ') line += ' ';
  }
  return line;
}

Json parse_json(std::string_view text, const std::string& what, const std::string& remedy) {
  std::string reason;
  try {
    // The parser takes NUL for the end, and skips a byte order mark.
    if (text.find('\0') != std::string_view::npos) throw Refusal("a NUL in it");
    if (text.substr(0, 3) == "\xef\xbb\xbf") throw Refusal("a byte order mark before it");
    return Json::parse(text.begin(), text.end(), Strict());
  } catch (const Json::exception& error) {
    reason = error.what();
  } catch (const Refusal& error) {
    reason = error.what();
  }
  throw Refusal(what + ": not valid JSON (" + one_line(reason) + "); " + remedy);
}

}  // namespace lorarar
