#include "cli/replay_buffer.hpp"

#include <algorithm>
#include <utility>

namespace noid::cli {

void ReplayBuffer::append(std::string bytes) {
    if (bytes.empty()) return;
    end_ += bytes.size();
    chunks_.push_back(std::move(bytes));
}

void ReplayBuffer::forget_below(std::uint64_t offset) {
    begin_ = std::clamp(offset, begin_, end_);
    while (!chunks_.empty() && first_chunk_ + chunks_.front().size() <= begin_) {
        first_chunk_ += chunks_.front().size();
        chunks_.pop_front();
    }
}

std::string_view ReplayBuffer::from(std::uint64_t offset) const {
    if (offset < begin_ || offset >= end_) return {};
    auto start = first_chunk_;
    for (const auto& chunk : chunks_) {
        if (offset < start + chunk.size()) return std::string_view{chunk}.substr(offset - start);
        start += chunk.size();
    }
    return {};
}

}  // namespace noid::cli
