// The settings job_alerting.*: where they are defined and how they are read.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace job_alerting::server {

enum class ChannelKind { log, sendgrid, slack };

const char *to_string(ChannelKind kind);

// The settings of the server and the database, as they stand now. A worker reads them once a round.
// In the place of a number or a word that is none stands what is safe.
struct Settings {
    std::int64_t interval; // seconds
    std::string channels;  // as written; see parse_channels
    std::string mail_from;
    std::string mail_to;
    std::string job_url;
    std::size_t max_listed;
    std::string sendgrid_api_key_file;
    std::string sendgrid_url;
    std::string slack_webhook_url_file;
    std::string heartbeat_url_file;
    int http_timeout;       // milliseconds
    bool hold_in_doubt;     // on_in_doubt = hold
    std::int64_t retention; // seconds
    std::string ca_file;
    std::string proxy;
};

Settings current_settings();

// What is wrong with numbers and words that were found in a file or a catalog, one after the other.
// Nothing of it is in `channels` or an address: these have faults of their own.
struct SettingFault {
    const char *setting;
    const char *initial; // its default
    std::string what;    // in ASCII
};
std::vector<SettingFault> setting_faults();

// The limits that the server's own code needs, without a copy. Milliseconds.
int lock_timeout_setting();
int scan_timeout_setting();
std::int64_t interval_setting(); // seconds

// The channels of a comma list, each once, in its order; nothing for an empty list. Returns false
// where it has a name that is no channel, and gives the first such name.
bool parse_channels(const char *list, std::vector<ChannelKind> &channels, std::string &unknown);

// Defines the settings; called once by each process that loads the library.
void define_settings();

} // namespace job_alerting::server
