{
  "targets": [
    {
      "target_name": "mome",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/mome.stamp"],
          "action": ["node", "scripts/build-addon.mjs"]
        }
      ]
    }
  ]
}
