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
    kainjow::mustache::mustache text{digest_text_template};
    kainjow::mustache::mustache html{digest_html_template};
    text.set_custom_escape([](const std::string &plain) { return plain; });

    Extent extent = full_extent(digest, max_listed);
    for (;;) {
        const auto view = view_of(phrases_of(digest, extent, job_url));
        Mail mail;
        mail.html = html.render(view);
        if (mail.html.size() <= max_html_bytes || extent.is_nothing()) {
            mail.subject = subject(digest);
            mail.text = wrap(text.render(view), text_width);
            return mail;
        }
        // Terminates: a digest without blocks is far below the limit.
        extent = reduced(extent, mail.html.size(), max_html_bytes);
    }
}

} // namespace job_alerting::core
