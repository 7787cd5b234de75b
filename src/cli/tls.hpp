#pragma once

#include <boost/asio/ssl/context.hpp>
#include <string>

#include "base/error.hpp"

namespace noid::cli {

// A client context that trusts what the system trusts (or SSL_CERT_FILE, SSL_CERT_DIR) and verifies.
[[nodiscard]] Result<boost::asio::ssl::context> make_tls_context();

// Sets what must hold for the peer on `ssl` (of an asio::ssl::stream): the certificate is for `host`.
[[nodiscard]] Result<void> expect_host(SSL* ssl, const std::string& host);

// What went wrong in the handshake, with the certificate's fault when that was it.
[[nodiscard]] std::string describe_tls_failure(SSL* ssl, const boost::system::error_code& failure);

}  // namespace noid::cli
