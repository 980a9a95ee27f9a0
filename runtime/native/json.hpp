// JSON that others wrote: nlohmann's reader, without its tolerance.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace lorarar {

using Json = nlohmann::json;

// Throws Refusal, "<what>: not valid JSON (...); <remedy>", for duplicate keys, nesting deeper than
// 100, NUL and what is no JSON.
Json parse_json(std::string_view text, const std::string& what, const std::string& remedy);

}  // namespace lorarar
