// Numeric settings. They are stored as text: at startup, the server would replace a mistyped number
// by the default and report that in its log only.

#pragma once

#include "server/base/prelude.hpp"

namespace job_alerting::server {

struct Number {
    const char *name;
    const char *description;
    int unit; // GUC_UNIT_S, GUC_UNIT_MS, or 0 for a plain number
    int min;
    int max;
    const char *initial;
    int fallback;                     // used while the text is not a valid number
    const char *fallback_description; // clause for messages: "a round runs every hour"
    char *text = nullptr;             // as set
};

// Whether a text is a number within the limits. Units are accepted as in the server's own settings.
bool is_number(const Number &number, const char *text);

// The number in effect. Never raises an error.
int value_of(const Number &number);

// The text as SHOW prints it: a number in the largest unit that leaves it whole, any other text
// unchanged. C regime; the result is valid until the next call.
const char *shown(const Number &number);

// The allowed values, for use in a message: "a time from 1s to 7d".
std::string range_of(const Number &number);

// Describes why the text is invalid and which fallback is in effect; empty if the text is valid.
std::string fault_of(const Number &number);

} // namespace job_alerting::server
