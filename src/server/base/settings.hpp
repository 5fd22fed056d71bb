// The settings job_alerting.*: definition and access.

#pragma once

#include "server/base/channel_kind.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace job_alerting::server {

// The current settings of the server and the database. A worker reads them once a round. An invalid
// number or keyword is replaced by a safe value.
struct Settings {
    std::int64_t interval; // seconds
    std::string channels;  // as set; see parse_channels()
    std::string mail_from;
    std::string mail_to;
    std::string job_url;
    std::size_t max_listed;
    std::string sendgrid_api_key_file;
    std::string sendgrid_url;
    std::string smtp_url;
    std::string smtp_credentials_file;
    std::string slack_webhook_url_file;
    std::string webhook_url_file;
    std::string webhook_secret_file;
    std::string webhook_format;
    std::string heartbeat_url_file;
    int http_timeout;       // milliseconds
    bool hold_in_doubt;     // on_in_doubt = hold
    std::int64_t retention; // seconds
    std::string ca_file;
    std::string proxy;
};

Settings current_settings();

// Faults of numbers and keywords that were read from a file or a catalog. Channels, addresses and
// URLs are not included: they are validated when they are used.
struct SettingFault {
    const char *setting;
    const char *initial; // default value
    std::string what;    // description, in ASCII
};
std::vector<SettingFault> setting_faults();

// Limits for code in the C regime. Milliseconds.
int lock_timeout_setting();
int scan_timeout_setting();
std::int64_t interval_setting(); // seconds

// Defines the settings. Called once in each process that loads the library.
void define_settings();

} // namespace job_alerting::server
