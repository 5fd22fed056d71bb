#include "http/smtp.hpp"

#include "http/dialogue.hpp"
#include "http/endpoint.hpp"
#include "http/transfer.hpp"

#include <algorithm>
#include <cstring>
#include <exception>

namespace job_alerting::http {

namespace {

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

// A mail in transmission. The callbacks of libcurl may neither throw nor jump.
class Sending {
public:
    Sending(const core::Submission &submission, bool needs_login, const Service &service)
        : submission_(submission), service_(service), needs_login_(needs_login),
          needs_utf8_(needs_utf8(submission)), dialogue_(submission.to.size()) {
        pthread_sigmask(SIG_SETMASK, nullptr, &signals_);
    }

    Dialogue &dialogue() { return dialogue_; }

    // Copies the next part of the message. Aborts if the message must not go out.
    std::size_t take(char *target, std::size_t room) noexcept {
        objection_ = objection();
        if (interrupted_ || !objection_.empty())
            return CURL_READFUNC_ABORT;
        const std::size_t size = std::min(room, submission_.message.size() - taken_);
        std::memcpy(target, submission_.message.data() + taken_, size);
        taken_ += size;
        return size;
    }

    // Calls the service, and lets in the signals that it reacts to. They stay unblocked once the
    // server has answered, because no thread that inherits the mask starts any more: they wake
    // libcurl while it waits for the verdict. After the verdict nothing may interrupt, or it would
    // be lost and the mail sent again.
    void serve() noexcept {
        if (interrupted_ || dialogue_.is_decided())
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

    // True if libcurl has to stop. It is told so by its callback and never cut off: its clean-up
    // would take the message for complete and send its end. The reply to QUIT is not awaited.
    bool must_end() const noexcept {
        return interrupted_ || dialogue_.is_over() || dialogue_.is_too_long();
    }

    core::SmtpAnswer answer(CURL *easy, CURLcode code, const char *words) const {
        if (interrupted_ && !dialogue_.is_decided())
            std::rethrow_exception(interrupted_);
        core::SmtpAnswer answer = dialogue_.answer();
        // The end is sent once the whole message was taken; nothing tells exactly when.
        answer.handed_over = taken_ == submission_.message.size();
        if (code == CURLE_OK && !dialogue_.is_decided()) { // a libcurl that reports no dialogue
            long reply = 0;
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &reply);
            answer.stage = core::SmtpStage::verdict;
            answer.code = static_cast<int>(reply);
        }
        if (!objection_.empty())
            answer.error = objection_;
        else if (dialogue_.is_too_long())
            answer.error = "the server says too much";
        else if (code != CURLE_OK)
            answer.error = *words ? words : curl_easy_strerror(code);
        return answer;
    }

private:
    // The reason not to hand the message to this server; empty if there is none.
    std::string_view objection() const noexcept {
        const std::size_t limit = dialogue_.size_limit();
        if (limit > 0 && submission_.message.size() > limit)
            return "the message is larger than the server accepts";
        if (needs_login_ && !dialogue_.offers_login())
            return "the server offers no login (check smtp_url and smtp_credentials_file)";
        if (needs_utf8_ && !dialogue_.takes_utf8())
            return "the server does not accept addresses that are not ASCII (SMTPUTF8)";
        return {};
    }

    const core::Submission &submission_;
    const Service &service_;
    const bool needs_login_;
    const bool needs_utf8_;
    sigset_t signals_;
    Dialogue dialogue_;
    std::size_t taken_ = 0;
    std::string_view objection_;
    std::exception_ptr interrupted_;
};

std::size_t on_read(char *target, std::size_t size, std::size_t count, void *sending) noexcept {
    return static_cast<Sending *>(sending)->take(target, size * count);
}

int on_progress(void *target, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
    Sending &sending = *static_cast<Sending *>(target);
    sending.serve();
    return sending.must_end() ? 1 : 0;
}

// Ends a reply without end, in whose midst libcurl calls nothing else.
std::size_t on_reply(char *, std::size_t, std::size_t size, void *sending) noexcept {
    return static_cast<Sending *>(sending)->dialogue().is_too_long() ? 0 : size;
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
    set(easy, CURLOPT_HEADERFUNCTION, on_reply);
    set(easy, CURLOPT_HEADERDATA, &sending);
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
        Sending sending(submission, !server.user.empty(), service);
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
        // A transfer that libcurl did not end itself must not send the end of the message when the
        // handle is removed; without recipients it does not.
        set<curl_slist *>(easy.get(), CURLOPT_MAIL_RCPT, nullptr);
        return sending.answer(easy.get(), code, words);
    } catch (const Refused &refused) {
        core::SmtpAnswer answer;
        answer.error = refused.what();
        return answer;
    }
}

} // namespace job_alerting::http
