package main

import (
	"errors"
	"fmt"
	"log/slog"

	"tokend/config"
	"tokend/tokend/store/postgres"
	"tokend/tokend/store/server"
)

// checkFiles returns what is wrong with the files that the configuration names, one line for
// each: passwords and certificates that whoever runs this cannot read, or that are none; and of
// which it could not look at any, as systemd hands them over to what it starts alone.
func checkFiles(cfg config.Config) (unread []string, err error) {
	var errs []error
	for _, secret := range []struct{ key, file string }{
		{"[store] password_file", cfg.Store.PasswordFile},
		{"[knox] password_file", cfg.Knox.PasswordFile},
		{"[cache] password_file", cfg.Cache.PasswordFile},
		{"[cache] sentinel_password_file", cfg.Cache.SentinelPasswordFile},
	} {
		if secret.file == "" {
			continue
		}
		switch _, err := readSecretFile(secret.file); {
		case errors.Is(err, errNoCredentials):
			unread = append(unread, fmt.Sprintf("%s: %s is the name of a credential, and was not looked at; with CREDENTIALS_DIRECTORY=FOLDER it would be", secret.key, secret.file))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", secret.key, err))
		}
	}
	log := slog.New(slog.DiscardHandler)
	if config.IsPostgreSQL(cfg.Store.URL) {
		errs = append(errs, postgres.CheckFiles(postgreSQL(cfg.Store, log, nil)))
	}
	if cfg.Knox.URL != "" {
		_, err := server.Parse("[knox] url", cfg.Knox.URL, nil)
		errs = append(errs, err)
	}
	if config.IsRedis(cfg.Cache.URL) {
		address, err := redisAddress(log, cfg.Cache)
		if err == nil {
			err = address.CheckFiles()
		}
		errs = append(errs, err)
	}
	return unread, errors.Join(errs...)
}
