// Records a dialogue with a mail server from the commands and replies that libcurl reports. It runs
// inside libcurl, so after its construction nothing may throw or jump. It keeps no command, because
// one of them contains the password.

#pragma once

#include "core/message.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace job_alerting::http {

class Dialogue {
public:
    static constexpr std::size_t max_reply = 1000;      // bytes kept of a reply
    static constexpr std::size_t max_refusal = 100;     // of what is said of a recipient
    static constexpr std::size_t max_read = 256 * 1000; // read of all replies together

    explicit Dialogue(std::size_t recipients);

    // Take a command, and a line of a reply or a piece of a long one.
    void sent(std::string_view command) noexcept;
    void received(std::string_view line) noexcept;

    bool is_too_long() const { return read_ > max_read; }
    bool has_begun() const { return stage_ != core::SmtpStage::connection; }
    bool is_decided() const { return stage_ == core::SmtpStage::verdict && code_ != 0; }
    bool is_over() const { return over_; } // QUIT was sent
    std::size_t size_limit() const { return size_limit_; }
    bool offers_login() const { return offers_login_; }
    bool takes_utf8() const { return takes_utf8_; } // in addresses

    // The answer so far, without the transport's part: `handed_over` and `error`.
    core::SmtpAnswer answer() const;

private:
    void begin(core::SmtpStage stage) noexcept;
    void finish(int code) noexcept;
    void refuse(int code) noexcept;
    void note_extension(std::string_view words) noexcept;

    core::SmtpStage stage_ = core::SmtpStage::connection;
    int code_ = 0; // of a reply that is complete
    std::string reply_;
    std::vector<core::RefusedRecipient> refused_; // as long as there are recipients
    std::size_t refusals_ = 0;
    std::size_t asked_ = 0; // recipients
    std::size_t size_limit_ = 0;
    std::size_t read_ = 0;
    bool lists_extensions_ = false; // EHLO is being answered
    bool takes_utf8_ = false;
    bool offers_login_ = false;
    bool over_ = false;
};

} // namespace job_alerting::http
