#include "cli/tls.hpp"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <boost/asio/ip/address.hpp>

namespace noid::cli {

Result<boost::asio::ssl::context> make_tls_context() {
    boost::asio::ssl::context context{boost::asio::ssl::context::tls_client};
    boost::system::error_code failure;
    context.set_default_verify_paths(failure);
    if (failure)
        return fail(Errc::unavailable, "cannot read the system's certificates: " + failure.message());
    context.set_verify_mode(boost::asio::ssl::verify_peer, failure);
    SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
    return context;
}

Result<void> expect_host(SSL* ssl, const std::string& host) {
    boost::system::error_code no_address;
    boost::asio::ip::make_address(host, no_address);
    if (!no_address) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1) return {};
    } else if (SSL_set_tlsext_host_name(ssl, host.c_str()) == 1 && SSL_set1_host(ssl, host.c_str()) == 1) {
        return {};
    }
    return fail(Errc::invalid, fmt::format("'{}' cannot be checked against a certificate", host));
}

std::string describe_tls_failure(SSL* ssl, const boost::system::error_code& failure) {
    const long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK)
        return fmt::format("TLS: the server's certificate is not trusted: {}",
                           X509_verify_cert_error_string(verdict));
    return "TLS: " + failure.message();
}

}  // namespace noid::cli
