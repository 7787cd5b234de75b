// A guest's question to netd, and what a name server on the internet answers to it: any bytes each, or an
// answer to the very question, which blind bytes would hardly ever be.
#include "input.hpp"
#include "net/dns_message.hpp"

using namespace noid;

namespace {

net::BytesView view(std::string_view bytes) {
    return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

void check_name(const std::string& name) {
    fuzz::require(name.size() < 1025, "a name that is too long");
    for (const char c : name) fuzz::require(c < 'A' || c > 'Z', "a name in upper case");
}

// What netd says itself is an answer to the question, as it would take one.
void check_own_answer(const net::Bytes& answer, const net::DnsQuery& query) {
    const auto addresses = net::parse_dns_answer(answer, query);
    fuzz::require(addresses && addresses->empty(), "an answer of our own that is none");
    fuzz::require(!net::parse_dns_query(answer), "an answer of our own that is a question");
}

// The question's header and question, with the number of records that were chosen, and records of any bytes.
net::Bytes answer_to(net::BytesView message, const net::DnsQuery& query, fuzz::Input& input) {
    net::Bytes answer = net::dns_error_answer(message, query, net::DnsError::refused);
    answer[3] = 0;
    answer[7] = input.number<std::uint8_t>();
    const auto records = view(input.all());
    answer.insert(answer.end(), records.begin(), records.end());
    return answer;
}

void read_answer(net::BytesView message, const net::DnsQuery& query) {
    const auto addresses = net::parse_dns_answer(message, query);
    if (!addresses) return;
    // A record has at least a byte of name and fourteen of type, class, time, length and address.
    fuzz::require(addresses->size() <= message.size() / 15, "more addresses than there is room for");
    for (const auto& each : *addresses)
        fuzz::require(each.ttl.count() >= 0 && each.ttl.count() < std::int64_t{1} << 32,
                      "an impossible time");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input{data, size};
    const bool any_answer = (input.number<std::uint8_t>() & 1) != 0;
    const auto question = view(input.take(input.number<std::uint8_t>()));
    const auto query = net::parse_dns_query(question);
    if (!query) {
        read_answer(view(input.all()), {});
        return 0;
    }
    check_name(query->name);
    fuzz::require(query->question_end <= question.size(), "a question beyond its message");
    check_own_answer(net::dns_error_answer(question, *query, net::DnsError::server_failure), *query);
    check_own_answer(net::dns_truncated_answer(question, *query), *query);
    net::Bytes other{question.begin(), question.end()};
    net::set_dns_id(other, static_cast<std::uint16_t>(query->id + 1));
    const auto renumbered = net::parse_dns_query(other);
    fuzz::require(renumbered && renumbered->name == query->name, "another number is another question");
    read_answer(any_answer ? view(input.all()) : net::BytesView{answer_to(question, *query, input)}, *query);
    return 0;
}
