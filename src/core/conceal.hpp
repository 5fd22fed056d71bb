// Removes a secret from text that others wrote: an answer can quote its request.

#pragma once

#include <string>
#include <string_view>

namespace job_alerting::core {

// This many consecutive characters of a secret count as the secret; for a shorter secret, all of
// it.
inline constexpr std::size_t min_run = 8;

// Replaces each run of `min_length` or more characters that the text shares with the secret by
// `replacement`. Finds runs as they are and in the escapes of JSON, URLs and HTML, and replaces an
// escape as a whole. `min_length` is at least min_run, unless the secret is shorter. Takes time
// O(text * log(secret)).
void conceal(std::string &text, std::string_view secret, std::string_view replacement,
             std::size_t min_length = min_run);

} // namespace job_alerting::core
