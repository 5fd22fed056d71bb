#include "core/webhook.hpp"

#include "core/headline.hpp"
#include "core/layout.hpp"
#include "core/link.hpp"
#include "core/phrases.hpp"
#include "core/text.hpp"

#include <nlohmann/json.hpp>

#include <utility>

namespace job_alerting::core {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t max_text_bytes = max_webhook_bytes / 2; // the structured part has the rest
constexpr std::size_t max_moment = 40;                        // characters

std::string text_of(const Digest &digest, std::size_t max_listed, const std::string &job_url);
Json event_of(const char *type, const WebhookEvent &event, Json data);
Json data_of(const Digest &digest, const WebhookEvent &event, const std::string &text,
             Extent extent, const std::string &job_url);
std::string dump(const Json &json);

} // namespace

std::string webhook_body(const Digest &digest, const WebhookEvent &event, std::size_t max_listed,
                         const std::string &job_url) {
    const std::string text = text_of(digest, max_listed, job_url);
    Extent extent = full_extent(digest, max_listed);
    for (;;) {
        std::string body = dump(
            event_of("job_alerting.digest", event, data_of(digest, event, text, extent, job_url)));
        if (body.size() <= max_webhook_bytes || extent.is_nothing())
            return body;
        // Terminates: a digest without causes is far below the limit.
        extent = reduced(extent, body.size(), max_webhook_bytes);
    }
}

std::string webhook_test_body(const Mail &test, const WebhookEvent &event) {
    return dump(event_of(
        "job_alerting.test", event,
        {{"message_id", event.message_id}, {"subject", test.subject}, {"text", test.text}}));
}

std::string signed_text(const std::string &message_id, std::int64_t now, const std::string &body) {
    return message_id + '.' + std::to_string(now) + '.' + body;
}

Request webhook_request(const std::string &url, const std::string &message_id, std::int64_t now,
                        const std::string &signature, std::string body) {
    Request request = {.url = url,
                       .headers = {"Content-Type: application/json", "User-Agent: job_alerting",
                                   "webhook-id: " + message_id,
                                   "webhook-timestamp: " + std::to_string(now),
                                   "Idempotency-Key: " + message_id},
                       .body = std::move(body)};
    if (!signature.empty())
        request.headers.push_back("webhook-signature: v1," + signature);
    return request;
}

namespace {

Json counts_of(const Digest &digest);
Json omitted_of(const Digest &digest, const Json &data);
void add_sections(Json &data, const Layout &layout, const std::string &job_url);
Json chain_of(const Section &section);
Json break_of(const Break &broke);
Json cause_of(const Section &section, const Cause &cause);
Json failure_of(const Failure &failure, const std::string &job_url);
std::int64_t causes_in(const Digest &digest);
std::int64_t chains_in(const Digest &digest);

std::string dump(const Json &json) {
    return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

// The text of the mail, with fewer jobs if they need too much room, and with only the counts in the
// end.
std::string text_of(const Digest &digest, std::size_t max_listed, const std::string &job_url) {
    for (;;) {
        std::string text = render(digest, max_listed, job_url).text;
        if (dump(text).size() <= max_text_bytes)
            return text;
        if (max_listed == 0)
            return render(minimal(digest), 0, "").text;
        max_listed /= 2;
    }
}

Json event_of(const char *type, const WebhookEvent &event, Json data) {
    return {{"type", type}, {"timestamp", event.timestamp}, {"data", std::move(data)}};
}

Json text_or_null(const std::string &text) {
    return text.empty() ? Json() : Json(text);
}

template <typename Value> Json value_or_null(const std::optional<Value> &value) {
    return value ? Json(*value) : Json();
}

Json moment_of(const std::optional<Moment> &moment) {
    return moment ? Json(one_line(moment->text, max_moment)) : Json();
}

Json data_of(const Digest &digest, const WebhookEvent &event, const std::string &text,
             Extent extent, const std::string &job_url) {
    Json data = {{"digest_id", digest.id},
                 {"message_id", event.message_id},
                 {"database", one_line(digest.database, max_name)},
                 {"cluster", text_or_null(one_line(digest.cluster, max_name))},
                 {"subject", subject(digest)},
                 {"text", text},
                 {"html_url", nullptr},
                 {"counts", counts_of(digest)},
                 {"period", {{"first", moment_of(digest.first)}, {"last", moment_of(digest.last)}}},
                 {"chains", Json::array()},
                 {"causes", Json::array()},
                 {"failures", Json::array()},
                 {"notes", phrases_of(digest, Extent(), "").notes}};
    add_sections(data, layout_of(digest, extent), job_url);
    data["omitted"] = omitted_of(digest, data);
    data["truncated"] = data["omitted"] != Json{{"chains", 0}, {"causes", 0}, {"failures", 0}};
    return data;
}

// A digest tells max_causes causes apart. `of_other_causes` counts the failures beyond them.
Json counts_of(const Digest &digest) {
    return {{"failures", digest.count},
            {"chains", chains_in(digest)},
            {"causes", causes_in(digest)},
            {"of_other_causes", digest.unnamed},
            {"standing", digest.standing},
            {"cleared", digest.cleared},
            {"unreadable_queues", static_cast<std::int64_t>(digest.queues.size())}};
}

// The numbers that the digest counts but does not list here.
Json omitted_of(const Digest &digest, const Json &data) {
    const auto listed = [&](const char *what) {
        return static_cast<std::int64_t>(data[what].size());
    };
    return {{"chains", chains_in(digest) - listed("chains")},
            {"causes", causes_in(digest) - listed("causes")},
            {"failures", digest.count - listed("failures")}};
}

std::int64_t causes_in(const Digest &digest) {
    std::size_t causes = 0;
    for (const Group &group : digest.groups)
        causes += group.causes.size();
    return static_cast<std::int64_t>(causes);
}

std::int64_t chains_in(const Digest &digest) {
    std::int64_t chains = 0;
    for (const Group &group : digest.groups)
        chains += group.chain.empty() ? 0 : 1;
    return chains;
}

void add_sections(Json &data, const Layout &layout, const std::string &job_url) {
    for (const Section &section : layout.sections) {
        if (section.kind == Section::Kind::chain)
            data["chains"].push_back(chain_of(section));
        for (const Block &block : section.blocks) {
            const Cause &cause = *block.cause;
            data["causes"].push_back(cause_of(section, cause));
            // An unreadable queue is a failure, too.
            const std::size_t listed = cause.unreadable_queue ? cause.listed.size() : block.jobs;
            for (std::size_t i = 0; i < listed; ++i)
                data["failures"].push_back(failure_of(cause.listed[i], job_url));
        }
    }
}

Json chain_of(const Section &section) {
    return {{"chain", section.chain},
            {"failures", section.failures},
            {"broke", section.broke ? break_of(*section.broke) : Json()},
            {"never_ran", section.never_ran}};
}

Json earlier(const std::optional<EarlierDigest> &reported) {
    return reported
               ? Json{{"digest_id", reported->digest}, {"at", one_line(reported->when, max_moment)}}
               : Json();
}

Json break_of(const Break &broke) {
    return {{"step", broke.step},
            {"job_id", broke.job_id},
            {"error", broke.error},
            {"lost_worker", broke.lost_worker},
            {"cleared", broke.cleared},
            {"failed_at", moment_of(broke.failed_at)},
            {"reported", earlier(broke.reported)}};
}

// A cause is new or was reported before. If neither is marked, that is unknown.
Json cause_of(const Section &section, const Cause &cause) {
    const bool known = cause.is_new || cause.reported;
    return {{"queue", cause.queue},
            {"source", text_or_null(cause.source)},
            {"job_type", text_or_null(cause.job_type)},
            {"chain", text_or_null(section.chain)},
            {"error", text_or_null(cause.error)},
            {"lost_worker", cause.is_lost_worker()},
            {"unreadable_queue", cause.unreadable_queue},
            {"failures", cause.count},
            {"cleared", cause.cleared},
            {"new", known ? Json(cause.is_new) : Json()},
            {"reported", earlier(cause.reported)},
            {"first", moment_of(cause.first)},
            {"last", moment_of(cause.last)}};
}

// Its members are named as the columns of the ledger.
Json failure_of(const Failure &failure, const std::string &job_url) {
    const std::string url = failure.is_unreadable_queue() ? "" : job_link(job_url, failure);
    return {{"id", failure.id},
            {"queue", failure.queue},
            {"job_id", failure.job_id},
            {"source", value_or_null(failure.source)},
            {"job_type", value_or_null(failure.job_type)},
            {"target_type", value_or_null(failure.target_type)},
            {"target_id", value_or_null(failure.target_id)},
            {"status", value_or_null(failure.status)},
            {"attempts", value_or_null(failure.attempts)},
            {"max_attempts", value_or_null(failure.max_attempts)},
            {"error", value_or_null(failure.error)},
            {"failed_at", moment_of(failure.failed_at)},
            {"chain", value_or_null(failure.chain)},
            {"cleared", failure.cleared},
            {"url", text_or_null(url)}};
}

} // namespace

} // namespace job_alerting::core
