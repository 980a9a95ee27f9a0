package android.net;

/** Stands in for Android's: the path of a file. */
public class Uri {
    public final String path;

    public Uri(String path) {
        this.path = path;
    }
}
