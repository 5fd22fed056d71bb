#include "core/view.hpp"

#include <string>
#include <vector>

namespace job_alerting::core {

namespace {

using kainjow::mustache::data;
using kainjow::mustache::list;

// Mustache treats an empty string as true.
data or_nothing(const std::string &text) {
    return text.empty() ? data(false) : data(text);
}

list named(const char *name, const std::vector<std::string> &texts) {
    list views;
    for (const std::string &text : texts)
        views.push_back(data(name, text));
    return views;
}

data job_view(const JobPhrases &job) {
    data view;
    view["job_name"] = or_nothing(job.name);
    view["job_facts"] = or_nothing(job.facts);
    view["job_link"] = or_nothing(job.link);
    view["no_error"] = or_nothing(job.no_error);
    view["has_error"] = !job.error.empty();
    view["lines"] = named("line", job.error);
    return view;
}

data block_view(const CausePhrases &cause) {
    list jobs;
    for (const JobPhrases &job : cause.jobs)
        jobs.push_back(job_view(job));
    data view;
    view["block_title"] = cause.title;
    view["block_count"] = or_nothing(cause.count);
    view["block_mark"] = or_nothing(cause.mark);
    view["block_reported"] = or_nothing(cause.reported);
    view["block_period"] = or_nothing(cause.period);
    view["block_note"] = or_nothing(cause.note);
    view["block_error"] = or_nothing(cause.error);
    view["jobs"] = jobs;
    view["block_rest"] = or_nothing(cause.rest);
    return view;
}

data section_view(const SectionPhrases &section) {
    list blocks;
    for (const CausePhrases &cause : section.causes)
        blocks.push_back(block_view(cause));
    data view;
    view["section_title"] = or_nothing(section.title);
    view["section_broke"] = or_nothing(section.broke);
    view["section_never_ran"] = or_nothing(section.never_ran);
    view["blocks"] = blocks;
    view["section_rest"] = or_nothing(section.rest);
    return view;
}

} // namespace

data view_of(const Phrases &phrases) {
    list sections;
    for (const SectionPhrases &section : phrases.sections)
        sections.push_back(section_view(section));
    data view;
    view["headline"] = phrases.headline;
    view["preheader"] = phrases.preheader;
    view["period"] = phrases.period;
    view["notes"] = named("note", phrases.notes);
    view["sections"] = sections;
    view["rest"] = or_nothing(phrases.rest);
    view["unnamed"] = or_nothing(phrases.unnamed);
    view["origin"] = phrases.origin;
    view["previous"] = or_nothing(phrases.previous);
    view["query"] = or_nothing(phrases.query);
    view["standing"] = phrases.standing;
    return view;
}

} // namespace job_alerting::core
