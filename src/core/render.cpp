#include "core/render.hpp"

#include "core/headline.hpp"
#include "core/layout.hpp"
#include "core/templates.hpp"
#include "core/view.hpp"
#include "core/wrap.hpp"

#include <kainjow/mustache.hpp>

namespace job_alerting::core {

namespace {

constexpr std::size_t text_width = 78;

} // namespace

Mail render(const Digest &digest, std::size_t max_listed, const std::string &job_url) {
    kainjow::mustache::mustache html{digest_html_template};

    Extent extent = full_extent(digest, max_listed);
    for (;;) {
        const Phrases phrases = phrases_of(digest, extent, job_url);
        Mail mail;
        mail.html = html.render(view_of(phrases));
        if (mail.html.size() <= max_html_bytes || extent.is_nothing()) {
            mail.subject = subject(digest);
            mail.text = render_text(phrases);
            return mail;
        }
        // Terminates: a digest without blocks is far below the limit.
        extent = reduced(extent, mail.html.size(), max_html_bytes);
    }
}

std::string render_text(const Phrases &phrases) {
    kainjow::mustache::mustache text{digest_text_template};
    text.set_custom_escape([](const std::string &plain) { return plain; });
    return wrap(text.render(view_of(phrases)), text_width);
}

} // namespace job_alerting::core
