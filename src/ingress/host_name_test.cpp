#include "ingress/host_name.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace noid::ingress {
namespace {

TEST(HostName, CommonNamesReadAsTheyAre) {
    EXPECT_EQ(to_label({3000, "web", "ann"}), "3000-web-ann");
    EXPECT_EQ(to_label({80, "my-app", "ann"}), "80-my--app-ann");
    EXPECT_EQ(to_label({80, "a.b", "ann@x"}), "80-a---2eb-ann---40x");
    EXPECT_EQ(parse_label("3000-web-ann"), (GuestName{3000, "web", "ann"}));
    EXPECT_EQ(parse_label("80-my--app-ann"), (GuestName{80, "my-app", "ann"}));
}

TEST(HostName, NoTwoNamesShareALabel) {
    const std::vector<std::string> parts{"a",   "b",    "a-",    "-b", "a-b", "a--b", "-",
                                         "--",  "a.b",  "A",     "a_", "2da", "a2d",  "a-2d",
                                         "-a-", "a-.b", "a---b", "b-", "0",   "+@"};
    std::set<std::string> labels;
    for (const std::string& vm : parts) {
        for (const std::string& user : parts) {
            const GuestName name{80, vm, user};
            const auto label = to_label(name);
            ASSERT_TRUE(label) << vm << " " << user;
            EXPECT_TRUE(labels.insert(*label).second) << *label;
            EXPECT_EQ(parse_label(*label), name) << *label;
        }
    }
}

TEST(HostName, WhatIsTooLongForALabelHasNone) {
    EXPECT_TRUE(to_label({80, std::string(30, 'a'), std::string(29, 'b')}));
    EXPECT_FALSE(to_label({80, std::string(30, 'a'), std::string(30, 'b')}));
    EXPECT_FALSE(parse_label("80-" + std::string(30, 'a') + "-" + std::string(30, 'b')));
}

TEST(HostName, HostileLabelsAreNone) {
    for (const char* label : {"",
                              "-",
                              "80",
                              "80-",
                              "80-web",
                              "80-web-",
                              "80--web-ann",
                              "0-web-ann",
                              "080-web-ann",
                              "65536-web-ann",
                              "99999999999999999999-web-ann",
                              "80-web-ann-more",
                              "80-WEB-ann",
                              "80-we b-ann",
                              "80-web-ann\r\nX: y",
                              "80-w---zz-ann",
                              "80-w---2-ann",
                              "80-web-ann---",
                              "80-a---61b-ann",
                              "80-a-----b-ann",
                              "80-%77eb-ann",
                              "80-..-ann",
                              "80-\xc3\xa4-ann"})
        EXPECT_EQ(parse_label(label), std::nullopt) << label;
    EXPECT_EQ(parse_label(std::string_view{"80-web-ann\0x", 12}), std::nullopt);
}

TEST(HostName, OnlyALabelBelowTheDomainIsForAGuest) {
    EXPECT_EQ(label_of_host("80-web-ann.vms.test", "vms.test"), "80-web-ann");
    EXPECT_EQ(label_of_host("80-WEB-ann.VMS.test.:7654", "vms.test"), "80-web-ann");
    for (const char* host :
         {"", "vms.test", ".vms.test", "api.vms.test", "80-web-annvms.test", "80-web-ann.vms.tes",
          "80-web-ann.evil.test", "80-web-ann.vms.test.evil.test", "80-web-ann.vms.test:x",
          "x.80-web-ann.vms.test", "80-web.ann.vms.test", "80.vms.test", "127.0.0.1:7654", "[::1]:7654",
          "80-web-ann.vms.test..", "80-web-ann"})
        EXPECT_EQ(label_of_host(host, "vms.test"), std::nullopt) << host;
    EXPECT_EQ(label_of_host("80-web-ann.", ""), std::nullopt) << "no domain, no names";
}

}  // namespace
}  // namespace noid::ingress
