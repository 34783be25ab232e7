from edged.testing import keeps_contract

test_contract = keeps_contract("latest")
