#include "cli/checkpoint_request.hpp"

#include <utility>

#include "cli/progress.hpp"

namespace noid::cli {

std::string checkpoint_target(const VmOnServer& vm, std::string_view which) {
    return vm.target + "/checkpoints/" + encode_query_value(which);
}

Awaitable<Result<boost::json::value>> call_with_spinner(const Context& context, const VmOnServer& vm,
                                                        HttpRequest request, std::string doing,
                                                        std::string what) {
    const Spinner spinner{context.executor, std::move(doing), can_draw_progress(context.json)};
    co_return co_await vm.client.call_json(std::move(request), std::move(what));
}

}  // namespace noid::cli
