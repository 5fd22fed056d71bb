// telling_line() and excerpt(), for any error of a program:
//
//   the telling line is one line, fit to show, at most 2000 characters and no longer than the
//   error; it is empty only where the error shows nothing; the telling line of a telling line is
//   that line; the excerpt begins with it and respects its limit; the same error has the same
//   cause, also behind an empty line.
//
// Input: the error. The seeds serve as a dictionary of marks.

#include "property.hpp"

#include "core/text.hpp"
#include "core/trace.hpp"

using namespace job_alerting;
using namespace job_alerting::core;
using namespace job_alerting::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string error = input_of(data, size);
    const std::string telling = telling_line(error);
    require(is_one_line(telling), "it is one line, fit to show");
    require(telling.size() <= error.size(), "it is no longer than the error");
    require(fuzz::characters(telling) <= 2000, "it is bounded");
    require(telling.empty() == clean_line(error).empty(), "it is empty only for nothing");
    require(telling_line(telling) == telling, "it is its own telling line");
    require(telling_line("\n" + error) == telling, "an empty line above changes nothing");

    const std::string shown = excerpt(error, 6, 600);
    require(is_fit_to_show(shown), "what is shown is fit to show");
    require(occurrences(shown, "\n") < 6 && fuzz::characters(shown) <= 600, "it is bounded");
    require(first_lines(shown, 6, 600) == shown, "it is not clipped a second time");
    const std::string first = shown.substr(0, shown.find('\n'));
    require(fuzz::characters(telling) > 590 || first.starts_with(telling),
            "it begins with that line");
    require(normalise_error(error).empty() == telling.empty(), "some cause, for something said");
    return 0;
}
