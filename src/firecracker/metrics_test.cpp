#include "firecracker/metrics.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/temporary_directory.hpp"
#include "firecracker/machine.hpp"

namespace noid::firecracker {
namespace {

// What Firecracker 1.16.1 wrote when a Debian had booted, word for word but for groups that nobody reads.
constexpr auto after_a_boot =
    R"({"utc_timestamp_ms":1795890559410,"balloon":{"activate_fails":0,"inflate_count":0,"stats_updates_cou)"
    R"(nt":1,"stats_update_fails":0,"deflate_count":0,"event_fails":0,"free_page_report_count":0,"free_page)"
    R"(_report_freed":0,"free_page_report_fails":0,"free_page_hint_count":0,"free_page_hint_freed":0,"free_)"
    R"(page_hint_fails":0},"block":{"activate_fails":0,"cfg_fails":0,"no_avail_buffer":0,"event_fails":0,"e)"
    R"(xecute_fails":0,"invalid_reqs_count":0,"flush_count":0,"queue_event_count":12,"rate_limiter_event_co)"
    R"(unt":0,"update_count":0,"update_fails":0,"read_bytes":308224,"write_bytes":4096,"read_count":73,"wri)"
    R"(te_count":1,"read_agg":{"min_us":0,"max_us":0,"sum_us":35483},"write_agg":{"min_us":0,"max_us":0,"su)"
    R"(m_us":14236},"rate_limiter_throttled_events":0,"io_engine_throttled_events":0,"remaining_reqs_count")"
    R"(:963},"seccomp":{"num_faults":0},"vcpu":{"exit_io_in":113,"exit_io_out":130,"exit_mmio_read":88,"exi)"
    R"(t_mmio_write":140,"failures":0,"kvmclock_ctrl_fails":0,"exit_io_in_agg":{"min_us":1,"max_us":8817,"s)"
    R"(um_us":12285},"exit_io_out_agg":{"min_us":1,"max_us":16561,"sum_us":49192},"exit_mmio_read_agg":{"mi)"
    R"(n_us":2,"max_us":189,"sum_us":1582},"exit_mmio_write_agg":{"min_us":2,"max_us":17966,"sum_us":49427})"
    R"(},"vsock":{"activate_fails":0,"cfg_fails":0,"rx_queue_event_fails":0,"tx_queue_event_fails":0,"ev_qu)"
    R"(eue_event_fails":0,"muxer_event_fails":0,"conn_event_fails":0,"rx_queue_event_count":0,"tx_queue_eve)"
    R"(nt_count":1,"rx_bytes_count":0,"tx_bytes_count":0,"rx_packets_count":0,"tx_packets_count":0,"conns_a)"
    R"(dded":0,"conns_killed":0,"conns_removed":0,"killq_resync":0,"tx_flush_fails":0,"tx_write_fails":0,"r)"
    R"(x_read_fails":0}})";
// The same with a number of its own for everything that is read.
constexpr auto line =
    R"({"utc_timestamp_ms":1795888041392,"balloon":{"activate_fails":0,"inflate_count":2},)"
    R"("block_rootfs":{"read_bytes":8192,"write_bytes":4096,"read_count":2,"write_count":1},)"
    R"("block":{"activate_fails":0,"execute_fails":1,"invalid_reqs_count":2,"flush_count":3,"read_bytes":8192,)"
    R"("write_bytes":4096,"read_count":2,"write_count":1,"read_agg":{"min_us":0,"max_us":0,"sum_us":0},)"
    R"("rate_limiter_throttled_events":7},)"
    R"("net":{"rx_bytes_count":100,"tx_bytes_count":200},"seccomp":{"num_faults":0},)"
    R"("vcpu":{"exit_io_in":1,"exit_io_out":2,"exit_mmio_read":3,"exit_mmio_write":4,"failures":0,)"
    R"("exit_io_in_agg":{"min_us":0,"max_us":0,"sum_us":0}},)"
    R"("vsock":{"rx_bytes_count":300,"tx_bytes_count":400}})";

TEST(Metrics, AreAddedUp) {
    vmm::DeviceNumbers sums;
    ASSERT_TRUE(add_metrics(line, sums));
    ASSERT_TRUE(add_metrics(line, sums));
    EXPECT_EQ(sums.disk_read_bytes, 16384U);
    EXPECT_EQ(sums.disk_written_bytes, 8192U);
    EXPECT_EQ(sums.disk_reads, 4U);
    EXPECT_EQ(sums.disk_writes, 2U);
    EXPECT_EQ(sums.disk_flushes, 6U);
    EXPECT_EQ(sums.disk_errors, 6U);
    EXPECT_EQ(sums.disk_throttled, 14U);
    EXPECT_EQ(sums.network_received_bytes, 200U);
    EXPECT_EQ(sums.network_sent_bytes, 400U);
    EXPECT_EQ(sums.vsock_received_bytes, 600U);
    EXPECT_EQ(sums.vsock_sent_bytes, 800U);
    EXPECT_EQ(sums.vcpu_exits, 20U);
    EXPECT_EQ(sums.vcpu_errors, 0U);
    EXPECT_EQ(sums.seccomp_faults, 0U);
}

TEST(Metrics, AreReadAsFirecrackerWritesThem) {
    vmm::DeviceNumbers sums;
    ASSERT_TRUE(add_metrics(after_a_boot, sums));
    EXPECT_EQ(sums.disk_read_bytes, 308'224U);
    EXPECT_EQ(sums.disk_reads, 73U);
    EXPECT_EQ(sums.disk_written_bytes, 4096U);
    EXPECT_EQ(sums.vcpu_exits, 113U + 130 + 88 + 140);
    EXPECT_EQ(sums.disk_throttled, 0U);
    EXPECT_EQ(sums.seccomp_faults, 0U);
}

TEST(Metrics, WhatIsNoLineOfThemIsRefused) {
    vmm::DeviceNumbers sums;
    for (const auto* text : {"", "{", "[]", "{}", "17", R"({"block":{"read_bytes":1}})"})
        EXPECT_EQ(add_metrics(text, sums).error().code, Errc::corrupt) << text;
    EXPECT_TRUE(add_metrics(R"({"utc_timestamp_ms":1,"block":[],"net":{"rx_bytes_count":"many"}})", sums));
    EXPECT_EQ(sums.disk_read_bytes, 0U);
    EXPECT_EQ(sums.network_received_bytes, 0U);
}

class MetricsFifoTest : public testing::Test {
  protected:
    void SetUp() override { ASSERT_EQ(::mkfifo((home_.path() / metrics_fifo).c_str(), 0600), 0); }
    void open() {
        directory_ = std::move(*open_directory(home_.path()));
        fifo_ = std::move(*MetricsFifo::open(directory_));
        writer_ = std::move(*open_file_at(directory_, metrics_fifo, O_RDWR | O_NONBLOCK));
    }
    void write(std::string_view text) {
        ASSERT_EQ(::write(writer_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    std::uint64_t drained() {
        fifo_.drain(sums_);
        return sums_.disk_reads;
    }

    TemporaryDirectory home_ = std::move(*TemporaryDirectory::create());
    Fd directory_;
    Fd writer_;
    MetricsFifo fifo_;
    vmm::DeviceNumbers sums_;
};

TEST_F(MetricsFifoTest, GivesWholeLines) {
    open();
    EXPECT_EQ(drained(), 0U);
    const std::string text{line};
    write(text.substr(0, 100));
    EXPECT_EQ(drained(), 0U);
    write(text.substr(100) + "\n" + text + "\n" + text);
    EXPECT_EQ(drained(), 4U);
    write("\n");
    EXPECT_EQ(drained(), 6U);
}

TEST_F(MetricsFifoTest, SurvivesBrokenAndEndlessLines) {
    open();
    write("garbage\n{\"utc\n");
    write(std::string{line}.substr(0, 50) + "\n" + line + "\n");
    EXPECT_EQ(drained(), 2U);
    for (int i = 0; i < 40; ++i) {
        write(std::string(8192, 'x'));
        EXPECT_EQ(drained(), 2U);
    }
    write(std::string{"\n"} + line + "\n");
    EXPECT_EQ(drained(), 4U);
}

TEST(MetricsFifo, AFirecrackerMayHaveNone) {
    const auto home = TemporaryDirectory::create();
    const auto directory = open_directory(home->path());
    EXPECT_EQ(MetricsFifo::open(*directory).error().code, Errc::not_found);
    MetricsFifo none;
    EXPECT_FALSE(none.is_there());
    vmm::DeviceNumbers sums;
    none.drain(sums);
}

TEST(BalloonStatistics, AreWhatTheGuestTold) {
    const auto booted = read_balloon_statistics(
        R"({"target_pages":12800,"actual_pages":12800,"target_mib":50,"actual_mib":50,"swap_in":0,"swap_out":0,)"
        R"("major_faults":0,"minor_faults":107,"free_memory":126083072,"total_memory":229138432,)"
        R"("available_memory":129695744,"disk_caches":4177920,"hugetlb_allocations":0,"hugetlb_failures":0})");
    ASSERT_TRUE(booted) << "as Firecracker 1.16.1 answered";
    EXPECT_EQ(booted->balloon, 50U << 20);
    EXPECT_EQ(booted->available, 129'695'744U);
    const auto numbers = read_balloon_statistics(
        R"({"target_pages":4096,"actual_pages":4096,"target_mib":16,"actual_mib":16,"swap_in":1,"swap_out":2,)"
        R"("major_faults":3,"minor_faults":4,"free_memory":30720000,"total_memory":60000000,)"
        R"("available_memory":40960000,"disk_caches":5000000,"hugetlb_allocations":0,"hugetlb_failures":0})");
    ASSERT_TRUE(numbers) << numbers.error().what;
    EXPECT_EQ(numbers->balloon, 16U << 20);
    EXPECT_EQ(numbers->total, 60'000'000U);
    EXPECT_EQ(numbers->available, 40'960'000U);
    EXPECT_EQ(numbers->major_faults, 3U);

    const auto early =
        read_balloon_statistics(R"({"target_pages":0,"actual_pages":0,"target_mib":0,"actual_mib":0})");
    ASSERT_TRUE(early);
    EXPECT_FALSE(early->total);
    for (const auto* text : {"", "[]", "{}", R"({"actual_pages":-1})", R"({"actual_pages":4294967296})"})
        EXPECT_EQ(read_balloon_statistics(text).error().code, Errc::corrupt) << text;
}

}  // namespace
}  // namespace noid::firecracker
