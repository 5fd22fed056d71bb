// write FOLDER: renders each sample digest as NAME.html, NAME.txt, NAME.slack.json
// and NAME.webhook.json.

#include "core/render.hpp"
#include "core/slack.hpp"
#include "core/webhook.hpp"

#include "../sample_digests.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>

namespace {

constexpr std::size_t max_listed = 50;

void write(const std::filesystem::path &file, const std::string &content) {
    std::ofstream stream;
    stream.exceptions(std::ios::badbit | std::ios::failbit);
    stream.open(file, std::ios::binary);
    stream << content;
    stream.close();
}

void write_all(const std::filesystem::path &folder) {
    using namespace job_alerting::core;
    const std::string job_url = "https://admin.example.com/jobs/{job_id}";
    std::filesystem::create_directories(folder);
    for (const auto &[name, digest] : sample_digests()) {
        const Mail mail = render(digest, max_listed, job_url);
        write(folder / (name + ".html"), mail.html);
        write(folder / (name + ".txt"), mail.text);
        write(folder / (name + ".slack.json"), slack_body(digest, max_listed, job_url));
        const WebhookEvent event = {"job-alerting-17-0123456789abcdef01234567",
                                    "2026-07-14T01:00:00Z"};
        write(folder / (name + ".webhook.json"), webhook_body(digest, event, max_listed, job_url));
    }
}

} // namespace

int main(int count, char **arguments) {
    if (count != 2) {
        std::cerr << "usage: write FOLDER\n";
        return 2;
    }
    try {
        write_all(arguments[1]);
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
