def run(config, directory, overrides):
    print("ok", directory, overrides)
