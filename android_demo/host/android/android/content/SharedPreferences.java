package android.content;

/** Stands in for Android's. */
public interface SharedPreferences {
    String getString(String key, String otherwise);

    boolean contains(String key);

    Editor edit();

    /** Changes. */
    interface Editor {
        Editor putString(String key, String value);

        void apply();
    }
}
