#include "http/smtp.hpp"

#include "http/dialogue.hpp"
#include "http/endpoint.hpp"
#include "http/transfer.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>

namespace job_alerting::http {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto longest_leave = std::chrono::seconds(1);

// Since 8.2.0 it is spelt with two l.
#if LIBCURL_VERSION_NUM >= 0x080200
constexpr CURLoption some_may_be_refused = CURLOPT_MAIL_RCPT_ALLOWFAILS;
#else
constexpr CURLoption some_may_be_refused = CURLOPT_MAIL_RCPT_ALLLOWFAILS;
#endif

bool is_ascii(const std::string &text) {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool needs_utf8(const core::Submission &submission) {
    return !is_ascii(submission.from) ||
           !std::all_of(submission.to.begin(), submission.to.end(), is_ascii);
}

// A mail on its way. What libcurl calls may neither throw nor jump.
class Sending {
public:
    Sending(const core::Submission &submission, const Service &service)
        : submission_(submission), service_(service), needs_utf8_(needs_utf8(submission)),
          dialogue_(submission.to.size()) {
        pthread_sigmask(SIG_SETMASK, nullptr, &signals_);
    }

    Dialogue &dialogue() { return dialogue_; }

    // Some of the message; more than it can be when it must not go out.
    std::size_t take(char *target, std::size_t room) noexcept {
        if (interrupted_ || !objection().empty())
            return CURL_READFUNC_ABORT;
        const std::size_t size = std::min(room, submission_.message.size() - taken_);
        std::memcpy(target, submission_.message.data() + taken_, size);
        taken_ += size;
        return size;
    }

    // Calls the service, with the signals let in that it looks for. They stay so once the server
    // was heard, when no thread is born any more that could take them: they wake libcurl, which
    // waits for the verdict without coming back.
    void serve() noexcept {
        if (interrupted_)
            return;
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, &signals_, &blocked);
        try {
            service_();
        } catch (...) {
            interrupted_ = std::current_exception();
        }
        if (!dialogue_.has_begun())
            pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
    }

    // Whether libcurl is to end. It is told so, and never cut off: its clean-up would take the
    // message for complete and send its end. Nor does a silent server keep it when all is said.
    bool must_end() noexcept {
        if (dialogue_.is_over() && leaving_since_ == Clock::time_point())
            leaving_since_ = Clock::now();
        const bool lingers = dialogue_.is_over() && Clock::now() - leaving_since_ > longest_leave;
        return interrupted_ || lingers || dialogue_.is_too_long();
    }

    core::SmtpAnswer answer(CURLcode code, const char *words) const {
        if (interrupted_)
            std::rethrow_exception(interrupted_);
        core::SmtpAnswer answer = dialogue_.answer();
        // The end is sent when all of the message was taken, and nobody tells exactly when.
        answer.handed_over =
            answer.stage == core::SmtpStage::verdict && taken_ == submission_.message.size();
        if (!objection().empty())
            answer.error = objection();
        else if (code != CURLE_OK)
            answer.error = *words ? words : curl_easy_strerror(code);
        return answer;
    }

private:
    // Why the message is not to be handed to this server.
    std::string_view objection() const noexcept {
        const std::size_t limit = dialogue_.size_limit();
        if (limit > 0 && submission_.message.size() > limit)
            return "the message is larger than the server takes";
        if (needs_utf8_ && !dialogue_.takes_utf8())
            return "the server does not take addresses that are not ASCII (SMTPUTF8)";
        return {};
    }

    const core::Submission &submission_;
    const Service &service_;
    const bool needs_utf8_;
    sigset_t signals_;
    Dialogue dialogue_;
    std::size_t taken_ = 0;
    std::exception_ptr interrupted_;
    Clock::time_point leaving_since_;
};

std::size_t on_read(char *target, std::size_t size, std::size_t count, void *sending) noexcept {
    return static_cast<Sending *>(sending)->take(target, size * count);
}

int on_progress(void *target, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
    Sending &sending = *static_cast<Sending *>(target);
    sending.serve();
    return sending.must_end() ? 1 : 0;
}

// The one way to see to which recipient a refusal belongs.
int on_dialogue(CURL *, curl_infotype type, char *text, std::size_t size, void *target) noexcept {
    Dialogue &dialogue = static_cast<Sending *>(target)->dialogue();
    if (type == CURLINFO_HEADER_OUT)
        dialogue.sent({text, size});
    else if (type == CURLINFO_HEADER_IN)
        dialogue.received({text, size});
    return 0;
}

void set_security(CURL *easy, const MailServer &server, const Options &options) {
    // mail_server_fault() allows it to this machine.
    const bool plain = is_plain_mail(server.url) && server.user.empty();
    set(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    set(easy, CURLOPT_USE_SSL, static_cast<long>(plain ? CURLUSESSL_NONE : CURLUSESSL_ALL));
    set_tls(easy, options);
    set(easy, CURLOPT_PROXY, ""); // also when the environment names one
    set(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    if (server.user.empty())
        return;
    // By the two that every server has: others would ask Kerberos, or need MD5.
    set(easy, CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN");
    set(easy, CURLOPT_USERNAME, server.user.c_str());
    set(easy, CURLOPT_PASSWORD, server.password.c_str());
}

void set_limits(CURL *easy, const Options &options) {
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_QUICK_EXIT, 1L); // do not wait for a resolver that hangs
    set(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout));
    // A server may take its time to greet; what it is connected by is not.
    set(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.timeout));
    set(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, std::max(1L, options.timeout / 1000L));
    set(easy, CURLOPT_FRESH_CONNECT, 1L);
    set(easy, CURLOPT_FORBID_REUSE, 1L);
}

List recipient_list(const core::Submission &submission) {
    List list(nullptr, curl_slist_free_all);
    for (const std::string &address : submission.to)
        append(list, address.c_str());
    return list;
}

void set_mail(CURL *easy, const MailServer &server, const core::Submission &submission,
              curl_slist *recipients) {
    set(easy, CURLOPT_URL, server.url.c_str());
    set(easy, CURLOPT_MAIL_FROM, submission.from.c_str());
    set(easy, CURLOPT_MAIL_RCPT, recipients);
    set(easy, some_may_be_refused, 1L);
    set(easy, CURLOPT_UPLOAD, 1L);
    set(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(submission.message.size()));
}

void set_callbacks(CURL *easy, Sending &sending) {
    set(easy, CURLOPT_READFUNCTION, on_read);
    set(easy, CURLOPT_READDATA, &sending);
    set(easy, CURLOPT_NOPROGRESS, 0L);
    set(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    set(easy, CURLOPT_XFERINFODATA, &sending);
    set(easy, CURLOPT_VERBOSE, 1L); // to the next function only
    set(easy, CURLOPT_DEBUGFUNCTION, on_dialogue);
    set(easy, CURLOPT_DEBUGDATA, &sending);
}

} // namespace

core::SmtpAnswer submit(const core::Submission &submission, const MailServer &server,
                        const Options &options, const Service &service) {
    try {
        initialise();
        Sending sending(submission, service);
        char words[CURL_ERROR_SIZE] = "";
        const List recipients = recipient_list(submission);
        const Easy easy(curl_easy_init(), curl_easy_cleanup);
        const Multi multi(curl_multi_init(), curl_multi_cleanup);
        if (!easy || !multi)
            throw Refused("libcurl cannot be initialised");
        do_not_wait_for_resolver(multi.get());
        set(easy.get(), CURLOPT_ERRORBUFFER, words);
        set_callbacks(easy.get(), sending);
        set_mail(easy.get(), server, submission, recipients.get());
        set_security(easy.get(), server, options);
        set_limits(easy.get(), options);
        const Attached attached(multi.get(), easy.get());
        const CURLcode code = transfer(multi.get(), [&] { sending.serve(); });
        return sending.answer(code, words);
    } catch (const Refused &refused) {
        core::SmtpAnswer answer;
        answer.error = refused.what();
        return answer;
    }
}

} // namespace job_alerting::http
