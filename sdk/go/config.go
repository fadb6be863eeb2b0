package jackfield

// Config is the configuration of this handler: the table config in the manifest.
var Config config

type config struct{}

// Get returns the value of a key, and "" if the manifest does not set it. The error is ErrConfig.
func (config) Get(key string) (string, error) {
	value, _, err := Config.Lookup(key)
	return value, err
}

// Lookup returns the value of a key, and whether the manifest sets it. The error is ErrConfig.
func (config) Lookup(key string) (string, bool, error) {
	value, err := currentHost().Config(key)
	if err != nil || value == nil {
		return "", false, err
	}
	return *value, true, nil
}

// GetAll returns all keys and their values. The error is ErrConfig.
func (config) GetAll() ([]Field, error) {
	return currentHost().AllConfig()
}
