// Keeps a secret out of what others wrote: an answer can quote its request, whole or in part.

#pragma once

#include <string>
#include <string_view>

namespace job_alerting::core {

// So many characters of a secret in a row are as good as the secret; of a shorter secret, all.
inline constexpr std::size_t min_run = 8;

// Puts `instead` in the place of each run of `least` or more characters (at least min_run, where
// the secret has so many) that a text shares with a secret: as they are, or in the escapes of JSON,
// URLs or HTML. An escape goes whole. All other text stays as it is. Linear in the text, but for
// the logarithm of the secret's length.
void conceal(std::string &text, std::string_view secret, std::string_view instead,
             std::size_t least = min_run);

} // namespace job_alerting::core
