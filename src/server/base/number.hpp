// Settings that are numbers. They are stored as text: the server would put the default in the place
// of a mistyped one that it finds at its start, and say so in its log only.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Number {
    const char *name;
    const char *meaning;
    int unit; // GUC_UNIT_S, GUC_UNIT_MS, or 0 for a plain number
    int least;
    int most;
    const char *initial;
    int meanwhile;            // holds as long as the text is no such number,
    const char *until_mended; // and is told in these words
    char *text = nullptr;     // as it was set
};

// Whether a text is a number within the limits, as the server reads its own, units included.
bool is_number(const Number &number, const char *text);

// The number that holds. Never raises an error.
int value_of(const Number &number);

// The text as the server shows a number: in the largest unit that leaves it whole. Any other
// text stays as it was written. C regime; the text lasts until the next call.
const char *shown(const Number &number);

// The texts that are allowed, as the end of a sentence: "a time from 1s to 7d".
std::string range_of(const Number &number);

// The fault of the text, for people, and the number that holds meanwhile; empty when it has none.
std::string fault_of(const Number &number);

} // namespace job_alerting::server
