#include "server/base/number.hpp"

#include "core/text.hpp"

namespace job_alerting::server {

namespace {

constexpr std::size_t max_quoted = 60; // characters of an invalid value that a message quotes

struct Unit {
    const char *name;
    int64 milliseconds;
};

constexpr Unit units[] = {
    {"d", 24 * 3600 * 1000}, {"h", 3600 * 1000}, {"min", 60 * 1000}, {"s", 1000}, {"ms", 1}};

bool read(const Number &number, const char *text, int &value) {
    return text && parse_int(text, &value, number.unit, nullptr) && value >= number.min &&
           value <= number.max;
}

// Returns static memory: a show hook must not allocate.
const char *write(const Number &number, int value) {
    static char text[32];
    const int64 milliseconds = static_cast<int64>(value) * (number.unit == GUC_UNIT_S ? 1000 : 1);
    if (number.unit != 0 && value != 0)
        for (const Unit &unit : units)
            if (milliseconds % unit.milliseconds == 0) {
                pg_snprintf(text, sizeof(text), INT64_FORMAT "%s", milliseconds / unit.milliseconds,
                            unit.name);
                return text;
            }
    pg_snprintf(text, sizeof(text), "%d", value);
    return text;
}

} // namespace

bool is_number(const Number &number, const char *text) {
    int value;
    return read(number, text, value);
}

int value_of(const Number &number) {
    int value;
    return read(number, number.text, value) ? value : number.fallback;
}

const char *shown(const Number &number) {
    int value;
    return read(number, number.text, value) ? write(number, value) : number.text;
}

std::string range_of(const Number &number) {
    const std::string min = write(number, number.min);
    return std::string(number.unit != 0 ? "a time" : "a whole number") + " from " + min + " to " +
           write(number, number.max);
}

std::string fault_of(const Number &number) {
    if (is_number(number, number.text))
        return {};
    return std::string(number.name) + " is \"" +
           core::one_line(number.text ? number.text : "", max_quoted) + "\", which is not " +
           range_of(number) + "; until it is fixed, " + number.fallback_description;
}

} // namespace job_alerting::server
