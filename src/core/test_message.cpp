#include "core/test_message.hpp"

#include "core/digest.hpp"
#include "core/text.hpp"

#include <kainjow/mustache.hpp>

namespace job_alerting::core {

Mail test_message(const std::string &database) {
    const std::string name = one_line(database, max_name);
    const std::string words =
        "This is a test message; no job has failed. The digests of database " + name +
        " will arrive the same way.";
    kainjow::mustache::mustache html{"<!DOCTYPE html><html><body><p>{{words}}</p></body></html>"};
    kainjow::mustache::data view;
    view["words"] = words;
    return {.subject = "Test message from job_alerting in " + name,
            .text = words + "\n",
            .html = html.render(view)};
}

} // namespace job_alerting::core
