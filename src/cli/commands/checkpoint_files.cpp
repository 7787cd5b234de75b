#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <optional>

#include "base/file.hpp"
#include "cli/checkpoint_request.hpp"
#include "cli/commands/execute.hpp"
#include "cli/failure.hpp"
#include "cli/local_input.hpp"
#include "cli/local_output.hpp"
#include "cli/new_file.hpp"
#include "cli/progress.hpp"
#include "cli/terminal.hpp"
#include "wire/checkpoint.hpp"

// checkpoint export and import: checkpoints as files.
namespace noid::cli {

Awaitable<Result<int>> execute(const Context& context, ExportCheckpoint command) {
    const bool to_stdout = command.file == "-";
    if (to_stdout && is_terminal(STDOUT_FILENO))
        co_return fail(Errc::invalid, "a checkpoint is no text for a terminal: name a file, or use a pipe");
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    NewFile file{command.file};
    std::optional<LocalOutput> output;
    ProgressBar progress{fmt::format("Exporting '{}'", command.checkpoint), std::nullopt,
                         can_draw_progress(context.json)};
    std::uint64_t bytes_written = 0;
    const auto begin = [&](const HttpAnswer&) -> Result<void> {
        auto fd = to_stdout ? Result<int>{STDOUT_FILENO} : file.create(0600);  // it holds a whole memory
        if (!fd) return fail(fd.error());
        auto opened = LocalOutput::open(context.executor, *fd);
        if (!opened) return fail(opened.error());
        output.emplace(std::move(*opened));
        return {};
    };
    const auto write = [&](std::string_view bytes) -> Awaitable<Result<void>> {
        auto written = co_await output->write(bytes);
        if (written) bytes_written += bytes.size();
        progress.advance(bytes.size());
        co_return written;
    };
    HttpRequest request{HttpMethod::get, checkpoint_target(*vm, command.checkpoint) + "/export"};
    request.begin_download = begin;
    request.download = write;
    request.read_timeout = saving_limit;
    auto answer = co_await vm->client.call(std::move(request));
    if (!answer) co_return fail(answer.error());
    if (to_stdout) co_return 0;
    if (auto published = file.publish(); !published) co_return fail(published.error());
    if (context.json) {
        print_line(boost::json::serialize(boost::json::object{
            {"checkpoint", command.checkpoint}, {"file", command.file}, {"bytes", bytes_written}}));
    } else {
        print_line(fmt::format("Checkpoint '{}' exported to {} ({})", command.checkpoint, command.file,
                               human_size(bytes_written)));
    }
    co_return 0;
}

Awaitable<Result<int>> execute(const Context& context, ImportCheckpoint command) {
    Fd file;
    int fd = STDIN_FILENO;
    std::optional<std::uint64_t> size;
    if (command.file != "-") {
        auto opened = open_file(command.file, O_RDONLY);
        if (!opened) co_return fail(opened.error());
        file = std::move(*opened);
        fd = file.get();
        struct stat info {};
        if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
            size = static_cast<std::uint64_t>(info.st_size);
    }
    auto vm = find_vm(context, command.vm);
    if (!vm) co_return fail(vm.error());
    auto input = LocalInput::open(context.executor, fd);
    if (!input) co_return fail(input.error());
    ProgressBar progress{fmt::format("Importing {}", command.file), size, can_draw_progress(context.json)};
    const auto read = [&](std::span<char> out) -> Awaitable<Result<std::size_t>> {
        auto bytes = co_await input->read(out.size());
        if (!bytes) co_return fail(bytes.error());
        std::ranges::copy(*bytes, out.begin());
        progress.advance(bytes->size());
        co_return bytes->size();
    };
    auto target = vm->target + "/checkpoints/import?";
    if (command.name) target += "name=" + encode_query_value(*command.name) + "&";
    if (command.label) target += "label=" + encode_query_value(*command.label) + "&";
    target.pop_back();
    HttpRequest request{HttpMethod::post, target};
    request.upload = read;
    request.upload_size = size;
    request.read_timeout = saving_limit;
    auto answer = co_await vm->client.call_json(std::move(request), "checkpoint");
    if (!answer) co_return fail(answer.error());
    auto imported = read_answer<wire::CheckpointInfo>(*answer, "checkpoint");
    if (!imported) co_return fail(imported.error());
    if (context.json) {
        print_line(boost::json::serialize(*answer));
    } else {
        print_line(fmt::format("Checkpoint '{}' imported for VM '{}'", printable(imported->id), vm->name));
    }
    co_return 0;
}

}  // namespace noid::cli
